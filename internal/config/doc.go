// Package config reads and writes the configuration files of both commands: btnode.yaml (Node), btnbd.yaml (NBD) and
// client.yaml (Client).
//
// What it refuses to be: forgiving. A key it does not know, a value it does not understand and a file of a newer version
// are errors that name the line. It opens no key, socket or store: it says what a person asked for, the packages that
// own those things say whether it can be had.
//
// 1. The version is read; a newer one is refused before anything else is looked at (kind NewerFormat).
// 2. The file is decoded strictly; an unknown key is refused with its line and, where one is near, the key meant.
// 3. File names in the file are taken relative to the file's own directory; those of flags and environment are not.
// 4. viper lays the environment (BT_LOG_LEVEL for log.level, BT_READER_KEY for readerKey) over the file, and flags over
// both. Lists come from the file alone, but for readers, which BT_READERS may give separated by commas.
// 5. The result is validated whole, so that nothing is begun with half a configuration.
//
// Scalars reach viper as the text that the file has, never as what YAML guesses: the store id 0012345670123456 stays
// what it is.
//
// Functions block on reading one file and may be called by many goroutines; the results belong to the caller. The
// commands import it, and the code that generates a playground.
package config
