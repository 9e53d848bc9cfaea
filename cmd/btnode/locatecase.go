package main

import (
	"context"
	"fmt"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/fs"
	"blocktree/internal/cli"
	"blocktree/route"
)

// Which of the four cases of DESIGN section 8 applies, and why the others do not: docs/design/0057.

// standing is what a runtime is to a file or directory.
type standing struct {
	runtime   blocktree.Path // "": nobody in particular
	host      bool           // it is a sector host of the file's cluster
	home      blocktree.Scope
	info      fs.Info
	key       error // why the reader key does not open it; nil: it does, or needs none
	noKey     bool  // there is none
	mayWrite  bool  // and hold its lease
	used      int   // the case that opening it took, 0: none
	how       string
	err       error // of opening it
	noService error // why no filesystem service is found
}

// cases finds out, and says it.
func (l *located) cases(ctx context.Context, d *door, path blocktree.Path, info fs.Info, home *cluster.Client) error {
	s := standing{info: info}
	near := path.Parent()
	if info.Dir { // as it is listed
		near = path
	}
	runtimes, steps, err := d.service.Explain(ctx, near) // before it is in the cache
	l.Service, s.noService = append(l.Service, steps...), err
	for _, r := range runtimes {
		l.Asked = append(l.Asked, r.Path.Short())
	}
	if home != nil {
		id := d.cluster.Identity()
		s.runtime, s.home = id.Path, home.Scope()
		dir, ok := route.SpeaksFor(id)
		s.host = ok && dir == home.Scope()
		_, allowed, err := d.cluster.Allowed(ctx, path)
		if err != nil {
			return err
		}
		const lease = meta.RightWrite | meta.RightLease
		s.mayWrite = allowed.Rights&lease == lease
	}
	if info.Kind() == fs.KindFile {
		s.open(ctx, d, path)
	}
	s.say(l)
	return nil
}

// open opens the file as cat would.
func (s *standing) open(ctx context.Context, d *door, path blocktree.Path) {
	s.noKey = d.reader == nil
	f, err := d.file(ctx, path, fs.OpenOptions{})
	s.used, s.how, s.key = d.took.number, d.took.how, d.took.key
	if s.err = err; err == nil {
		_ = f.Close() // nothing was written
	}
}

// say says which case applies, and why the others do not, of files and of devices.
func (s *standing) say(l *located) {
	if s.info.Kind() != fs.KindFile {
		l.Case = s.named()
		return
	}
	switch {
	case s.host && s.err != nil:
		l.Case = fmt.Sprintf("1: this runtime is a sector host of the file's cluster itself, but cannot read what is in it: %v", s.err)
	case s.host:
		l.Case = "1: this runtime is a sector host of the file's cluster itself; its content: " + s.how
	case s.err != nil:
		l.Case = fmt.Sprintf("none: %v", s.err)
	default:
		l.Case = fmt.Sprintf("%d: %s", s.used, s.how)
	}
	l.Not = s.others()
	l.Device = s.device()
}

// named says which case applies to what has no content: names, and what symbolic links say.
func (s *standing) named() string {
	switch {
	case s.runtime == "" && s.noService != nil:
		return fmt.Sprintf("none: %v", s.noService)
	case s.runtime == "":
		return "4: names and what everybody may list are told by a filesystem service"
	case s.host:
		return "1: this runtime is a sector host of the cluster, which tells names"
	}
	return "2: names are told by the nodes themselves, which takes no reader key"
}

// others are the cases that do not apply to a file, and why.
func (s *standing) others() []string {
	not := []string{}
	add := func(number int, format string, args ...any) {
		not = append(not, fmt.Sprintf("%d: ", number)+fmt.Sprintf(format, args...))
	}
	if s.runtime == "" {
		add(1, "nobody in particular keeps sectors")
		add(2, "nobody in particular has a reader key")
		add(3, "credentials were not shown (--anonymous)")
		if s.used == 0 {
			add(4, "it is for files that everybody may read, in directories that everybody may read, up to the root")
		}
		return not
	}
	if !s.host {
		add(1, "%s is no sector host of %s", s.runtime.Short(), s.home.Short())
	}
	switch {
	case s.used == 2:
		add(3, "no service is needed for what the reader key opens")
	case s.noKey:
		add(2, "no reader key is configured")
	case s.key != nil:
		add(2, "%v", s.key)
	}
	if s.used != 2 && s.noService != nil {
		add(3, "%v", s.noService)
	} else if s.used == 0 {
		add(3, "the service does not open it for %s", s.runtime.Short())
	}
	add(4, "%s has credentials; --anonymous asks without", s.runtime.Short())
	return not
}

// device says what btnbd would do with the file by the same configuration.
func (s *standing) device() string {
	switch {
	case s.runtime == "":
		return "no case: btnbd needs credentials (identity), as it holds the file's lease"
	case s.info.Encrypted && s.noKey:
		return "no case: btnbd seals and opens by itself, and no reader key is configured; name one that opens the file (readerKey), or have one added: btnode reader add"
	case s.info.Encrypted && s.used != 2:
		return "no case: btnbd seals and opens by itself, and the reader key does not open the file; have it added: btnode reader add"
	}
	number := 2
	if s.host {
		number = 1
	}
	text := fmt.Sprintf("case %d: ", number)
	if s.info.Encrypted {
		text += "btnbd opens it here with the reader key"
	} else {
		text += "it is not encrypted, which its export has to say (encryption: none)"
		if s.noKey {
			text += "; btnbd wants a reader key in its configuration all the same"
		}
	}
	if !s.mayWrite {
		text += fmt.Sprintf("; to read only (readOnly: true), as %s may not write it", cli.PrintableName(s.runtime.Short()))
	}
	return text
}
