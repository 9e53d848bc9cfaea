package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"blocktree"
)

// Run parses args, runs the command they name and returns the exit code for os.Exit. The command's context ends with
// SIGINT or SIGTERM; a second signal then kills, as people expect. It blocks until the command returns.
func Run(root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() { // ends with the process or with stop, whichever is first
		<-ctx.Done()
		stop()
	}()
	return RunContext(ctx, root, args, stdout, stderr)
}

// RunContext is Run without signals, for tests and for commands inside one another.
func RunContext(ctx context.Context, root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return ExitOK
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || blocktree.KindOf(err) == blocktree.Canceled) {
		return ExitOK // stopped as asked
	}
	err = asUsage(root, err)
	complain(c, args, err)
	return ExitCode(err)
}

// Complain tells of err on the standard error of c, as PrintError does, or as JSON where that is what c was asked for. A command that goes on after a failure uses it; Run does for the error that a command returns.
func Complain(c *cobra.Command, err error) { complain(c, nil, err) }

// complain is Complain. args are those of the command line, of which --json counts also where the flags were not understood as far as that.
func complain(c *cobra.Command, args []string, err error) {
	if f := c.Flags().Lookup("json"); f != nil && (f.Value.String() == "true" || !f.Changed && wantsJSON(args)) {
		printJSONError(c.ErrOrStderr(), err)
		return
	}
	PrintError(c.ErrOrStderr(), c.Root().Name(), err)
}

// wantsJSON looks for --json in arguments that were not understood.
func wantsJSON(args []string) (wants bool) {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	for _, a := range args {
		if a == "--json" {
			wants = true
		} else if value, ok := strings.CutPrefix(a, "--json="); ok {
			wants, _ = strconv.ParseBool(value) // as pflag does
		}
	}
	return wants
}

// asUsage makes cobra's own complaints, all of them about how the command was typed, usage errors with a hint.
func asUsage(root *cobra.Command, err error) error {
	var e *blocktree.Error
	if errors.As(err, &e) || !isCobra(err) {
		return err
	}
	return Invalid("see `"+root.Name()+" --help`", "%w", err)
}

// isCobra recognises the few errors that cobra makes itself after flags are parsed; it has no types for them.
func isCobra(err error) bool {
	for _, p := range []string{"required flag(s)", "unknown command", "if any flags in the group"} {
		if strings.HasPrefix(err.Error(), p) {
			return true
		}
	}
	return false
}

// PrintJSON writes v as indented JSON with a newline: the form that every --json prints.
func PrintJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return blocktree.E("print", blocktree.IO, err)
	}
	return nil
}
