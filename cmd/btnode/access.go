package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/internal/cli"
	"blocktree/internal/file"
)

// accessLine is what stat says of who reads a file.
type accessLine struct {
	Number     uint64   `json:"number"` // of the access record; 0: of a version before, signed by nobody
	Owner      uint32   `json:"owner"`  // user id that may change it, beside 0
	Generation uint32   `json:"generation"`
	Readers    []string `json:"readers"`             // public keys that the key is wrapped to by name
	Inherits   bool     `json:"inherits"`            // it is wrapped to the key of a directory above, too
	Directory  string   `json:"directory,omitempty"` // public key that what is made beneath is wrapped to
	Older      int      `json:"older"`               // generations before that sectors may be sealed under
	Resealed   *uint64  `json:"resealed,omitempty"`  // bytes of the file that are sealed anew, while there are such
	Rate       uint64   `json:"resealRate,omitempty"`
	Holder     string   `json:"holder,omitempty"` // who has the lease, and does it

	described *file.Described
	resealing file.Resealing
}

// describeAccess is nil for what has no key.
func describeAccess(ctx context.Context, client *cluster.Client, path blocktree.Path, inode *meta.Inode) (*accessLine, error) {
	d, err := file.Describe(path, inode, nil)
	if err != nil || d == nil {
		return nil, err
	}
	l := &accessLine{Number: d.Number, Owner: d.Owner, Generation: d.Generation, Inherits: d.Inherits, Older: d.Older, Readers: []string{}, described: d}
	for _, r := range d.Readers {
		l.Readers = append(l.Readers, r.String())
	}
	if !d.Directory.IsZero() {
		l.Directory = d.Directory.String()
		return l, nil
	}
	if l.resealing = file.ResealingOf(inode, d); l.resealing.Done {
		return l, nil
	}
	l.Resealed, l.Rate = &l.resealing.Bytes, l.resealing.Rate
	held, err := client.Holder(ctx, inode.ID)
	if err == nil && held != nil {
		l.resealing.Held, l.Holder = true, held.Holder.Short()
	}
	return l, err
}

func (l *accessLine) print(w io.Writer) {
	if l == nil {
		return
	}
	signed := fmt.Sprintf("number %d, administered by user %d", l.Number, l.Owner)
	if l.Number == 0 {
		signed = "of a version before, signed by nobody"
	}
	fmt.Fprintf(w, "key\tgeneration %d\nrecord\t%s\n", l.Generation, signed)
	for _, r := range l.described.Readers {
		fmt.Fprintf(w, "reader\t%s\n", r.Short())
	}
	if l.Inherits {
		fmt.Fprint(w, "reader\twhoever reads the directory above\n")
	}
	if l.Directory != "" {
		fmt.Fprintf(w, "public\t%s\n", l.described.Directory.Short())
	}
	if l.Older > 0 && l.Directory == "" {
		fmt.Fprintf(w, "re-sealed\t%s\n", resealText(l.resealing))
	}
}

// resealText says how far a file is.
func resealText(r file.Resealing) string {
	text := fmt.Sprintf("%s of %s", cli.FormatSize(r.Bytes), cli.FormatSize(r.SizeBytes))
	switch {
	case r.Done:
		return "all of it is sealed under the newest key"
	case !r.Held:
		return text + ", and nobody is at it: open the file, or say btnode rekey --wait"
	case r.Rate > 0:
		text += fmt.Sprintf(", %s/s, %s left", cli.FormatSize(r.Rate), r.Left().Round(time.Second))
	}
	return text
}

// reseal shows how far a file is.
func (p *progress) reseal(path blocktree.Path, r file.Resealing) {
	if p.w == nil {
		return
	}
	p.shown = time.Now()
	fmt.Fprintf(p.w, "\r\x1b[K%s re-sealed: %s", path.Short(), resealText(r))
}
