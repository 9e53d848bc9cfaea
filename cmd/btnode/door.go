package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/crypto/keys"
	"blocktree/crypto/tree"
	"blocktree/fs"
	"blocktree/internal/cli"
	"blocktree/internal/config"
	"blocktree/internal/file"
	"blocktree/internal/vfs"
)

// door is how a command reaches the content of files: with a reader key through the cluster itself (case 2 of DESIGN section 8), without one through a
// filesystem service (case 3), or that as nobody in particular (case 4).
type door struct {
	cfg       *config.Client
	anonymous bool
	namesOnly bool
	tell      io.Writer // which case was used; nil: nobody wants to know
	cluster   *cluster.Client
	reader    *keys.ReaderKey // nil: there is none
	service   *fs.Client      // of whom services are asked, as far as any are found
	roots     file.Roots      // of files of integrity tree; nil: nothing is kept
	root      tree.Root       // that the file must have, or have had
	warn      io.Writer
	failed    func(error) // tells of one failure of several
	took      taken       // by the last opening
}

// taken is by which case something was opened.
type taken struct {
	number int // 0: by none
	how    string
	key    error // why the reader key did not open it; nil where it did, or there is none
}

// doorFlags are the flags of the commands that go through a door.
type doorFlags struct {
	config             string
	anonymous, verbose bool
	namesOnly          bool // no content is opened: no reader key is needed
	state, root        string
}

func (f *doorFlags) add(c *cobra.Command, mayBeAnybody bool) {
	addConfig(c, &f.config, "configuration of any node or client of the cluster")
	if mayBeAnybody {
		c.Flags().BoolVar(&f.anonymous, "anonymous", false, "ask as nobody in particular, without credentials")
	}
	c.Flags().StringVar(&f.state, "state", "", "directory that keeps the newest root seen of each file of integrity tree that is opened here")
	_ = c.MarkFlagDirname("state") // for completion only
	c.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "say which way was taken")
}

// with loads the configuration, opens the door, and runs do.
func (f *doorFlags) with(c *cobra.Command, do func(ctx context.Context, d *door) error) error {
	if err := cli.RequireFlags(c, "config"); err != nil {
		return err
	}
	load := config.LoadClient
	if f.anonymous {
		load = config.LoadAnonymous
	}
	cfg, err := load(config.Source{File: f.config})
	if err != nil {
		return err
	}
	d := &door{cfg: cfg, anonymous: f.anonymous, namesOnly: f.namesOnly, warn: c.ErrOrStderr(), failed: func(err error) { cli.Complain(c, err) }}
	if d.root, err = tree.ParseRoot(cmp.Or(f.root, "none")); err != nil {
		return err
	}
	if f.state != "" {
		d.roots = file.KeepRoots(vfs.Disk{}, f.state)
	}
	if f.verbose {
		d.tell = c.ErrOrStderr()
	}
	defer d.close()
	if err := d.open(c); err != nil {
		return err
	}
	return do(c.Context(), d)
}

// open connects to nobody yet.
func (d *door) open(c *cobra.Command) (err error) {
	log := parts.QuietLogger(c.ErrOrStderr(), &d.cfg.Base)
	if !d.anonymous {
		if d.cluster, err = parts.Dial(c.Context(), &d.cfg.Base, log); err != nil {
			return err
		}
		if d.cfg.ReaderKey != "" && !d.namesOnly {
			if d.reader, err = keys.LoadReaderKey(d.cfg.ReaderKey); err != nil {
				return err
			}
		}
	}
	d.service, err = parts.DialFilesystem(&d.cfg.Base, d.cluster, log)
	return err
}

func (d *door) close() {
	if d.service != nil {
		_ = d.service.Close() // what it opened ends with it
	}
	if d.cluster != nil {
		_ = d.cluster.Close() // likewise
	}
}

// used says which case was used, with --verbose.
func (d *door) used(path blocktree.Path, number int, how string) {
	d.took.number, d.took.how = number, how
	if d.tell != nil {
		fmt.Fprintf(d.tell, "btnode: %s: case %d, %s\n", cli.PrintableName(path.Short()), number, how)
	}
}

// usedService is used of a filesystem service, or of those in a directory.
func (d *door) usedService(path blocktree.Path, service string) {
	if d.anonymous {
		d.used(path, 4, "by the filesystem service "+service+", as nobody in particular")
		return
	}
	why := "no reader key is configured"
	if d.reader != nil {
		why = "the reader key does not open it"
	}
	d.used(path, 3, "by the filesystem service "+service+": "+why)
}

// noDoor is the error of a path that no filesystem service was found for; why is what the reader key came to, nil where there is none.
func noDoor(why, err error) error {
	if why != nil && fs.NoService(err) {
		return why
	}
	return err
}

// file opens a file: with the reader key if that opens it, else through a filesystem service.
func (d *door) file(ctx context.Context, path blocktree.Path, o fs.OpenOptions) (fs.File, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	var err error
	d.took = taken{}
	if d.reader != nil {
		var f fs.File
		if f, err = fs.OpenLocal(ctx, d.cluster, path, fs.Local{Reader: d.reader, Roots: d.roots, Root: d.root, Believe: d.believe}, o); err == nil {
			d.used(path, 2, "opened here with the reader key")
			return f, nil
		}
		if d.took.key = err; blocktree.KindOf(err) != blocktree.Permission {
			return nil, err
		}
	}
	if !d.root.IsZero() {
		if err != nil {
			return nil, err
		}
		return nil, cli.Invalid("name a reader key (readerKey) that opens the file: what a filesystem service has seen is kept there", "--root is for files that are opened here")
	}
	if err := d.kept(path, err); err != nil {
		return nil, err
	}
	f, errService := d.service.Open(ctx, path, o)
	if errService != nil {
		return nil, noDoor(err, errService)
	}
	d.usedService(path, fs.ServiceOf(f).Short())
	return f, nil
}

// kept refuses a filesystem service for a file of which a root is kept here: whoever says that the reader key does not open it, which is why, could have it read as it was before.
func (d *door) kept(path blocktree.Path, why error) error {
	if d.roots == nil {
		return nil
	}
	seen, err := d.roots.Load(path)
	if err != nil || seen == nil {
		return err
	}
	if why == nil {
		why = errors.New("the configuration has no reader key")
	}
	return &blocktree.Error{Op: "open", Path: path.Short(), Kind: blocktree.Permission, Err: fmt.Errorf("a root of it is kept, and it cannot be opened here to be compared with that: %w", why),
		Hint: "name a reader key (readerKey) that opens the file; without --state a filesystem service is asked, and goes by what it has seen itself"}
}

// believe says that nothing was known of a file of integrity tree.
func (d *door) believe(path blocktree.Path) {
	fmt.Fprintf(d.warn, "btnode: warning: %s: nothing here says what the file was, so its newest root is believed as the cluster shows it; --state DIR remembers it, --root ROOT demands one\n", path.Short())
}

// addRoot adds the flag of commands that open a file that is there.
func (f *doorFlags) addRoot(c *cobra.Command) {
	c.Flags().StringVar(&f.root, "root", "", "root that a file of integrity tree must have, or have had, as btnode file stat prints it; for a file that is opened here")
}

// create makes a file of a mode, zero: that of new files, and says which it is; zero where the service, of a version before, does not. Of an error the file that is returned is there.
func (d *door) create(ctx context.Context, path blocktree.Path, create *config.Create, mode uint32) (made blocktree.FileID, err error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	if d.reader != nil {
		readers, err := parts.Readers(&d.cfg.Base, d.reader)
		if err != nil {
			return made, err
		}
		o := parts.CreateOptions(create, readers, nil)
		o.Mode = mode
		if made, err = file.Make(ctx, d.cluster, path, o); err != nil || !create.Tree() || d.roots == nil {
			return made, err
		}
		return made, d.roots.Save(path, file.Seen{File: made}) // in the place of what another file had here
	}
	if create.Tree() {
		return made, cli.Invalid("name a reader key (readerKey) in the configuration", "a filesystem service makes no files of integrity tree")
	}
	return d.service.Make(ctx, path, fs.CreateOptions{SizeBytes: uint64(create.Size), SectorBytes: create.Sector(), Code: create.Code.Code, Mode: mode, Durability: parts.Durability(create)})
}

// endAt has an open file, which was made just now at a path, end after so many bytes: it, and no other that has the name by now.
func (d *door) endAt(ctx context.Context, f fs.File, path blocktree.Path, bytes uint64) error {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	var err error = blocktree.E("truncate", blocktree.Unsupported, nil)
	if t, ok := f.(fs.Truncater); ok {
		err = t.Truncate(ctx, bytes)
	}
	if blocktree.KindOf(err) == blocktree.Unsupported && d.reader == nil { // a service of a version before has the name alone
		return d.service.SetLength(ctx, path, bytes)
	}
	return err
}

// RemoveFile implements fs.Remover, for what was made just now.
func (d *door) RemoveFile(ctx context.Context, path blocktree.Path, id blocktree.FileID) error {
	if d.reader != nil {
		return d.cluster.RemoveFile(ctx, path, id)
	}
	return d.service.RemoveFile(ctx, path, id)
}

// made is the error of a creation: what is there all the same is removed.
func (d *door) made(ctx context.Context, path blocktree.Path, id blocktree.FileID, err error) error {
	if err != nil && id != (blocktree.FileID{}) {
		return fs.Undone(ctx, d, path, id, err)
	}
	return unsure(err)
}

// fillable opens the file that was made, or begun, at a path, to write it. Another one that has the name by now is not touched.
func (d *door) fillable(ctx context.Context, path blocktree.Path, id blocktree.FileID) (fs.File, error) {
	f, err := d.file(ctx, path, fs.OpenOptions{Write: true})
	if err == nil && id != (blocktree.FileID{}) && f.Info().ID != id {
		_ = f.Close() // nothing was done with it
		return nil, &blocktree.Error{Op: "open", Path: path.Short(), Kind: blocktree.NotFound, Err: errors.New("another file has the name by now"), Hint: "somebody else uses that name: name another one"}
	}
	return f, err
}
