// Package cli is what both commands have in common: how an error becomes two lines and an exit code, how a size is
// spelled, how signals stop a process, how help, completion and man pages are made.
//
// What it refuses to be: a place for commands. It knows cobra and the error kinds, no file, no cluster and no device.
//
// 1. Run parses the arguments and calls the command with a context that SIGINT and SIGTERM end.
// 2. What the command returns is printed by PrintError: "name: error: …", then "name: hint: …", always both.
// Where --json was given it is one line of JSON, {"error": {"kind": …, "message": …, "hint": …}}, also on the standard error; the kind is as blocktree.Kind prints it.
// 3. The kind of the error decides the exit code: 0 for success and for a stop by signal, 2 for a request that can
// never succeed as typed, 1 for everything else.
// 4. Only main calls os.Exit, with the number that Run returned.
//
// Nothing here keeps state between calls; Run is called once per process. The commands and internal/config import it.
package cli
