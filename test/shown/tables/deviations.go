package main

import "strings"

// deviation is one that is decided: what is done, or the name of the case before a colon, and that; what both say, and why (docs/design/0068-real-programs.md, and btnode-mount(1)). A '*' is anything.
type deviation struct{ statement, local, mount, why string }

// deviations are all that are decided.
func deviations() []deviation {
	const (
		links   = "hard links: a file has one name"
		bits    = "set-id and sticky bits are not kept, and not passed over in silence"
		owners  = "all is shown as the mounter's: others are given nothing, and giving it to himself is nothing"
		special = "no pipes, devices and sockets"
		mknod   = "mknod of a file that its owner could not write"
		access  = "access(2) of others' files, of directories, and by root, goes by any class of the mode: the file is judged when it is used"
		atime   = "no time of access by itself"
		early   = "no time before 1970"
		omitted = "the time of the last write set to now, without that of access, is judged as both are"
		through = "no right on the directories above is needed, of who has credentials and a right on the file"
		moving  = "what is another's is moved by its owner alone: its access record says its path"
		writing = "a file is opened to write with the right to read it, too"
		newline = "no newlines in names"
		swap    = "no exchange of two names"
		unnamed = "no files without a name"
	)
	return []deviation{
		{"* link *", "OK", "EPERM", links},
		{"* mkdir * 01777", "OK", "EPERM", bits},
		{"* chmod * 04755", "OK", "EPERM", bits},
		{"* chmod * 02755", "OK", "EPERM", bits},
		{"* chmod * 01*", "OK", "EPERM", bits},
		{"* open * w,creat 04755", "OK", "EPERM", bits},
		{"* open * w,creat 01644", "OK", "EPERM", bits},
		{"root chown *", "OK", "EPERM", owners},
		{"bob chown f 1001 1001", "EPERM", "OK", owners},
		{"* mkfifo *", "OK", "EPERM", special},
		{"* mkfifo *", "EACCES", "EPERM", special},
		{"* mksocket *", "OK", "EPERM", special},
		{"* mkchar *", "OK", "EPERM", special},
		{"* mkblock *", "OK", "EPERM", special},
		{"* mkreg * 0444", "OK", "EPERM", mknod},
		{"bob access *", "EACCES", "OK", access},
		{"root access *", "OK", "EACCES", access},
		{"* utimens * omit", "OK", "ENOTSUP", atime},
		{"* utimens * -1", "OK", "EINVAL", early},
		{"bob utimens f omit now", "EPERM", "OK", omitted},
		{"directories.*: * open d/f *", "EACCES", "OK", through},
		{"directories.*: * stat d/f", "EACCES", "OK *", through},
		{"directories.*: * truncate d/f *", "EACCES", "OK", through},
		{"bob rename *", "OK", "EACCES", moving},
		{"bob rename *", "ENOTEMPTY", "EACCES", moving},
		{"bob noreplace *", "OK", "EACCES", moving},
		{"alice rename ofroot b", "OK", "EACCES", moving},
		{"modes.0200.*: alice open f w*", "OK", "EACCES", writing},
		{"modes.0222.*: * open f w*", "OK", "EACCES", writing},
		{"modes.0602.*: bob open f w*", "OK", "EACCES", writing},
		{"chmod.*: alice open f w", "OK", "EACCES", writing},
		{"* create *\\nline *", "OK", "EINVAL", newline},
		{"* exchange *", "OK", "EINVAL", swap},
		{"* open * rw,tmp *", "OK", "ENOTSUP", unnamed},
	}
}

// decided is the deviation of the list that something is; ok is false where none is.
func decided(name, statement, local, mount string) (d deviation, ok bool) {
	for _, d := range deviations() {
		if (fits(d.statement, statement) || fits(d.statement, name+": "+statement)) && fits(d.local, local) && fits(d.mount, mount) {
			return d, true
		}
	}
	return deviation{}, false
}

// fits compares with a pattern, whose stars are any bytes.
func fits(pattern, s string) bool {
	first, rest, stars := strings.Cut(pattern, "*")
	s, ok := strings.CutPrefix(s, first)
	if !stars || !ok {
		return ok && s == ""
	}
	for i := range len(s) + 1 {
		if fits(rest, s[i:]) {
			return true
		}
	}
	return false
}
