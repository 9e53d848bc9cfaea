package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cmd/internal/parts"
	"blocktree/fs"
	"blocktree/fs/mount"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// What --close may say.
const (
	closeLater = "later"
	closeWait  = "wait"
)

func newMount() *cobra.Command {
	var flags doorFlags
	var readOnly bool
	var create config.Create
	var closes string
	ahead := cli.Size(blocktree.MountReadAheadBytes)
	c := &cobra.Command{
		Use:   "mount PATH DIR --config FILE [--read-only] [--anonymous] [--code K+M] [--durability ack|flush] [--close wait|later] [--read-ahead SIZE]",
		Short: "Show a directory as a file system",
		Long: `mount shows the directory PATH, and all beneath it, at the local directory DIR, until it is stopped. Programs read and write it, with --read-only or --anonymous only read. It is for the user who mounts it alone, to whom
everything in it is shown as belonging. It prints a line that begins with "ready" when programs can use it.

What is read and written comes by a filesystem service, which judges, decrypts and encrypts, also where the configuration has a reader key. Who opens a file reads what was flushed before; names and attributes may be a second old.
Where root mounts, the kernel is told to read 512KiB ahead of a program that reads a file from one end to the other, or what --read-ahead says; anybody else's reads 128KiB ahead. More is faster to read so, and slower for programs that map large files and read here and there.
Programs of one mount see at once what others of it write; elsewhere it is seen when it was flushed. So is a new file, or within a tenth of a second (where the mount makes it by itself, see below, who looks for it, or lists its directory, waits for up to a quarter of one); that a program alone has made it (O_EXCL, as lock files are) holds for good once fsync or close of it returned without an error.

Each write goes to the service before it is answered, but for the first 64 KiB of a new file, which go when it is flushed or closed, or something else is asked of it, and within 50 ms; that they could not be written (ENOSPC) is told then, for good, and the file is not renamed. A new file may have its name for good only then, too: what open with O_EXCL answered holds once fsync or close of the file, or fsync of its directory, has. fsync, and close, return when what was written would survive the loss of power everywhere, or fail, with --close later but for the close of some small new files; sync without a file is not passed on by the kernel, and does nothing. Where the service dies, programs
go on after a pause: what was answered and not flushed is written again by the next one. If somebody else may have written the file in between, or the mount is not the only one that writes it, or it is of integrity tree, those that have it open for writing get I/O errors from then on, until they open it again. While no service is reached, programs wait, for 30 seconds, and then get an I/O error. A file that
another service, or a block device, has open for writing is busy; who writes it by the same service writes it, too. A write that fails is told to who wrote, and once more at fsync or close.

In a directory that a program of the mount has made, and of which nobody else has asked for anything since, the mount makes files of at most 64 KiB by itself, and sends each whole. With --close later their close returns before that, as on other file systems: everybody who asks for the file afterwards, by whatever service, finds all of it; but where the mount is killed, or its machine, in the moment that sending takes (milliseconds; while no service answers, until one does), the file is lost as a whole, and with it what was closed in the same moment. Where its service dies in that moment others find it when the next one has been sent it, some seconds later. What open with O_EXCL answered holds once fsync has, not close.
One that cannot be made any more (its directory is gone, or the rights are, or there is no room for 30 seconds) is said in the log, and by an error of the next fsync of its directory. fsync, of whatever file or directory, and a rename, symlink or unlink return when all that was closed before is durable. With --close wait, the default, each close does. When the mount is taken away the command ends when all is sent, or after 30 seconds, and fails if something could not be.

With --durability flush new files are made so that nodes make durable what was written at fsync and close, not with each write, which on disks that flush is faster for all but small files. When all nodes lose power at once, what was fsynced or closed is there; what was written after that is written again by the
mount, as where a service dies, or who has the file open for writing gets I/O errors from then on, at fsync and close, too, until it is opened again. Such a file stays as it was made, whoever writes it; a filesystem service of a version before makes it of durability ack. A node that lost power copies what it has of such files anew from the others.

SIGINT or SIGTERM unmounts it, as soon as nobody uses it: a shell in it, or an open file, keeps it. The command ends when all is flushed, and fails if a file could not be. A second signal kills the process: what was fsynced, or (not with --close later) closed, is there,
programs get errors until fusermount -u DIR takes away what is left. fusermount -u DIR also stops a mount that is well. It needs /dev/fuse, and fusermount where it is not root's.

Symbolic links are followed by this machine: a target that begins with / is one of its own. Programs set the time of the last write, which is also shown as that of the last access, and extended attributes whose names begin with user. No time of access is set by itself (EOPNOTSUPP), and none before 1970 (EINVAL); whoever may write
sets the time of the last write to now, also without that of access.

Locks, of fcntl and flock, hold among all who have the file open by the same service; they are lost with it, and then who had one gets I/O errors until it is given back. An exclusive one of flock has the file open for writing.

New files are encrypted. There are no hard links, pipes, sockets and devices, no set-id and sticky bits (EPERM), and no other extended attributes (EOPNOTSUPP); a file has the owner that mounts, others cannot be given (EPERM); mknod makes no file that its owner could not write (EPERM). A file that is removed, or replaced, while programs have it open goes on for them, and its room is free when the last of them closes it; of one that was open to read by another service, or when the service by which it is open is gone, they are told ESTALE. One that is written by another service, or is a block device, is not removed (EBUSY). A file that is not encrypted is only read.

Who may do what the service judges, by the credentials: r and w of a mode, and grants. To use a file takes no right on the directories above it; to write it, also to read it; and what is another's is moved or renamed by its owner alone (EACCES). access(2) says yes where any class of the mode does. A name has no newline,
and two names are not exchanged (EINVAL); there are no files without a name (EOPNOTSUPP).

df shows, by what the nodes tell of their disks, about how much more could be written with the code of the mount. Nothing of that is set aside, and one node whose disk is full, or that says so, makes it nothing. Who mounts with --anonymous is not told, nor by services and nodes of versions before: then df leaves the mount out.`,
		Example: `  btnode mount /docs /mnt/docs --config client.yaml
  btnode mount /docs /mnt/docs --read-only --config client.yaml
  btnode mount /pub /mnt/pub --anonymous --config client.yaml`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "DIR"),
	}
	addConfig(c, &flags.config, "configuration of any node or client of the cluster")
	c.Flags().BoolVar(&flags.anonymous, "anonymous", false, "ask as nobody in particular, without credentials; only to read")
	c.Flags().BoolVar(&readOnly, "read-only", false, "change nothing: every change fails")
	addCode(c, &create.Code, "")
	addDurability(c, &create.Durability)
	addClose(c, &closes)
	c.Flags().Var(&ahead, "read-ahead", "how much the kernel reads ahead of a program that reads a file from one end to the other, if root mounts; at most 1MiB, 0 leaves it as it is")
	c.RunE = func(c *cobra.Command, args []string) error {
		bytes, err := readAhead(ahead, c.Flags().Changed("read-ahead"))
		if err != nil {
			return err
		}
		later, err := closesLater(closes)
		if err != nil {
			return err
		}
		return flags.with(c, func(_ context.Context, d *door) error {
			return d.mountAt(c, args, &create, mount.Options{ReadOnly: readOnly || d.anonymous, Anonymous: d.anonymous, ReadAhead: bytes, Fill: true, CloseLater: later})
		})
	}
	return c
}

// addClose adds --close.
func addClose(c *cobra.Command, closes *string) {
	c.Flags().StringVar(closes, "close", closeWait, "when the close of a small new file returns, in a directory that was made in the mount: wait, when it is durable; or later, before it is sent")
	completeWords(c, "close", []string{closeWait, closeLater})
}

// closesLater is what a mount is told of that.
func closesLater(closes string) (bool, error) {
	if closes != closeLater && closes != closeWait {
		return false, &blocktree.Error{Op: "mount", Kind: blocktree.Invalid, Err: fmt.Errorf("--close %q is not known", closes), Hint: "use --close " + closeWait + " or --close " + closeLater}
	}
	return closes == closeLater, nil
}

// readAhead is what a mount is told of how much is read ahead. Less than a page the kernel takes for nothing, and 0 is to leave it as it is.
func readAhead(ahead cli.Size, said bool) (int, error) {
	const bytesMin = 4 << 10
	switch {
	case !said:
		return 0, nil
	case ahead == 0:
		return -1, nil
	case ahead > blocktree.MountLongReadBytesMax:
		return 0, &blocktree.Error{Op: "mount", Kind: blocktree.Invalid, Err: fmt.Errorf("%s is more than is read ahead", ahead.String()), Hint: "use --read-ahead " + cli.FormatSize(blocktree.MountLongReadBytesMax) + " or less"}
	case ahead < bytesMin:
		return 0, &blocktree.Error{Op: "mount", Kind: blocktree.Invalid, Err: fmt.Errorf("%s is less than is read ahead", ahead.String()), Hint: "use --read-ahead " + cli.FormatSize(bytesMin) + " or more, or 0 to leave it as it is"}
	}
	return int(ahead), nil
}

// mountSource is what a mount asks: services, and the cluster itself for what services do not do.
type mountSource struct {
	*fs.Client
	cluster *cluster.Client
}

// SetMode implements mount.Moder.
func (s mountSource) SetMode(ctx context.Context, path blocktree.Path, id blocktree.FileID, mode uint32) error {
	_, err := s.cluster.SetModeOf(ctx, path, id, mode)
	return err
}

// mountAt is mount of what the arguments of the command name.
func (d *door) mountAt(c *cobra.Command, args []string, create *config.Create, o mount.Options) error {
	path, err := d.cfg.Resolve(args[0])
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(args[1])
	if err != nil {
		return localError("mount", args[1], err)
	}
	return d.mount(c, path, dir, create, o)
}

// mount shows a directory until the command is stopped, or somebody takes it away.
func (d *door) mount(c *cobra.Command, path blocktree.Path, dir string, create *config.Create, o mount.Options) error {
	create.Size = cli.Size(create.Sector())
	if create.Code.Data == 0 {
		_ = create.Code.Set(defaultCode(len(d.cfg.Cluster.Members))) // constants
	}
	if err := create.Validate(len(d.cfg.Cluster.Members)); err != nil {
		return err
	}
	log := parts.QuietLogger(c.ErrOrStderr(), &d.cfg.Base)
	source := mount.Source(d.service)
	if d.cluster != nil {
		source = mountSource{d.service, d.cluster}
	}
	o.Code, o.SectorBytes, o.Durability, o.Logger = create.Code.Code, create.Sector(), parts.Durability(create), log
	m, err := mount.Dir(c.Context(), source, path, dir, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "ready %s on %s\n", path.Short(), dir)
	cli.NotifyReady(log)
	select {
	case <-m.Ended():
		return unsaved(m, dir)
	case <-c.Context().Done():
	}
	cli.NotifyStopping(log)
	for told := false; ; told = true {
		err := m.Unmount()
		if err == nil {
			return unsaved(m, dir)
		}
		if !told {
			fmt.Fprintf(c.ErrOrStderr(), "btnode: warning: %v; it ends when nobody uses %s any more, or with another signal, after which fusermount -u takes away what is left\n", busyOf(err), dir)
		}
		select {
		case <-m.Ended():
			return unsaved(m, dir)
		case <-time.After(blocktree.MountStopEvery):
		}
	}
}

// unsaved is the error of a mount that has ended, and could not flush all that was written.
func unsaved(m *mount.Mount, dir string) error {
	err := m.Unsaved()
	if err == nil {
		return nil
	}
	return &blocktree.Error{Op: "mount", Path: dir, Err: fmt.Errorf("a file that was written could not be flushed: %w", err), Hint: "what was fsynced, or (not with --close later) closed, without an error is there; write the rest again"}
}

// busyOf is the innermost error of one that says where it happened.
func busyOf(err error) error {
	var e *blocktree.Error
	if errors.As(err, &e) && e.Err != nil {
		return fmt.Errorf("%s: %w", e.Path, e.Err)
	}
	return err
}
