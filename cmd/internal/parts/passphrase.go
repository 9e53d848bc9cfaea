package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"

	"blocktree"
	"blocktree/crypto/cred"
)

// terminal is where people type: standard input may be a pipe.
const terminal = "/dev/tty"

// Passphrase reads a passphrase from a file, if one is named, else from the terminal, without echo; twice, if it is a new one. It fails with
// Invalid where there is no terminal, or the two differ; with Permission for a file that others may read.
func Passphrase(ctx context.Context, file, what string, twice bool) ([]byte, error) {
	if file != "" {
		return passphraseFile(file)
	}
	tty, err := os.OpenFile(terminal, os.O_RDWR, 0)
	if err != nil {
		return nil, &blocktree.Error{Op: "passphrase", Kind: blocktree.Invalid, Err: errors.New("there is no terminal to type it at"),
			Hint: "give --passphrase-file FILE, which only you can read"}
	}
	defer tty.Close() // only written to
	first, err := typed(ctx, tty, "passphrase of "+what+": ")
	if err != nil || !twice {
		return first, err
	}
	again, err := typed(ctx, tty, "the same again: ")
	if err == nil && !bytes.Equal(first, again) {
		err = &blocktree.Error{Op: "passphrase", Kind: blocktree.Invalid, Err: errors.New("the two are not the same"), Hint: "try again"}
	}
	return first, err
}

// typed reads a line without echo. Interrupted, it leaves the terminal as it was.
func typed(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, blocktree.E("passphrase", blocktree.IO, err)
	}
	fmt.Fprint(tty, prompt)
	type line struct {
		text []byte
		err  error
	}
	lines := make(chan line, 1)
	go func() { // ends with the line, or with the process
		text, err := term.ReadPassword(fd)
		lines <- line{text, err}
	}()
	select {
	case l := <-lines:
		fmt.Fprintln(tty)
		if l.err != nil && l.err != io.EOF {
			return nil, blocktree.E("passphrase", blocktree.IO, l.err)
		}
		return l.text, nil
	case <-ctx.Done():
		fmt.Fprintln(tty)
		_ = term.Restore(fd, before) // there is nobody left to tell
		return nil, blocktree.E("passphrase", blocktree.Canceled, ctx.Err())
	}
}

// passphraseFile reads a file that has a passphrase and perhaps a newline.
func passphraseFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fileError("passphrase", name, err)
	}
	defer f.Close() // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, fileError("passphrase", name, err)
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return nil, &blocktree.Error{Op: "passphrase", Path: name, Kind: blocktree.Permission, Err: fmt.Errorf("others may read it (mode %04o)", info.Mode().Perm()),
			Hint: "chmod 600 " + name}
	}
	text, err := io.ReadAll(io.LimitReader(f, cred.PassphraseBytesMax+2))
	if err != nil {
		return nil, fileError("passphrase", name, err)
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r")), nil
}
