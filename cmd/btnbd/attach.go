package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"blocktree"
	"blocktree/blockdev/attach"
	"blocktree/internal/cli"
	"blocktree/internal/config"
)

// attachFlags is what the flags of `btnbd attach` say.
type attachFlags struct {
	socket, config       string
	connections          int
	timeout, deadTimeout time.Duration
	readOnly, ioctl      bool
	level                string
}

func newAttach() *cobra.Command {
	var a attachFlags
	c := &cobra.Command{
		Use:   "attach PATH /dev/nbdN|auto (--socket ADDRESS | --config FILE) [--connections N] [--read-only]",
		Short: "Make a file a block device of the kernel that survives a restart of its server",
		Long: `attach connects the kernel to a server that exports PATH, prints "ready" and the device, and stays in the foreground as the keeper
of the device. It needs root, and the kernel module nbd (modprobe nbd).

While the server is gone, what uses the device waits. attach reconnects by itself, to the same address, and checks that the export is
the same, and no smaller, before the kernel gets the new connections; what it cannot hand over, it says, and the device goes on waiting. An
export that has grown grows the device, within 10 seconds. The data does not pass through attach: when it is killed, the device works on,
but nobody reconnects it; the same command again takes it over.

With one connection, the default, no server is ever cut off for being slow, and what was in flight when a server died is sent again at most 5
seconds after the reconnection. With several, the kernel repeats what is not answered within --timeout (35 seconds unless given, and no less)
on another connection, and what was in flight goes on only then. For longer than --dead-timeout nothing new waits for a server: it gets I/O errors.

SIGINT and SIGTERM flush and detach the device. While it is mounted, or used in another such way, it is left attached, without a
keeper, and the exit code is 1: so attach can be upgraded under a mounted file system.

--ioctl uses the old interface of the kernel, for kernels before 4.12: such a device ends with its connection and with attach, and cannot be
reconnected. There is no TLS yet: the kernel needs the plain socket.`,
		Example: `  btnbd attach /vm/disk0 /dev/nbd0 --config /etc/blocktree/btnbd.yaml
  btnbd attach /vm/disk0 auto --socket unix:/run/btnbd/nbd.sock
  btnbd attach /vm/disk0 /dev/nbd0 --socket tcp:192.0.2.7:10809 --connections 4`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("PATH", "/dev/nbdN"),
		ValidArgsFunction:     completeDevice(1),
	}
	f := c.Flags()
	f.StringVar(&a.socket, "socket", "", "where the server is: unix:PATH, tcp:HOST:PORT, or an NBD URI")
	f.StringVar(&a.config, "config", "", "configuration of the server (btnbd.yaml), which says where it listens")
	f.IntVar(&a.connections, "connections", 1, "number of connections")
	f.DurationVar(&a.timeout, "timeout", 0, "cut off a server that leaves a request unanswered for so long (default never; 35s with several connections)")
	f.DurationVar(&a.deadTimeout, "dead-timeout", attach.DeadTimeoutDefault, "how long requests wait for a server that is gone")
	f.BoolVar(&a.readOnly, "read-only", false, "make the device read-only")
	f.BoolVar(&a.ioctl, "ioctl", false, "use the kernel's old interface, which cannot reconnect")
	f.StringVar(&a.level, "log-level", "info", "debug, info, warn or error")
	_ = c.MarkFlagFilename("config", "yaml") // for completion only
	c.RunE = func(c *cobra.Command, args []string) error { return a.run(c, args[0], args[1]) }
	return c
}

func (a *attachFlags) run(c *cobra.Command, path, device string) error {
	log, err := cli.NewLogger(c.ErrOrStderr(), a.level)
	if err != nil {
		return err
	}
	o := attach.Options{Connections: a.connections, Timeout: a.timeout, DeadTimeout: a.deadTimeout, ReadOnly: a.readOnly,
		System: attach.NewMachine(), Logger: log}
	if o.Index, err = attach.ParseDevice(device, true); err != nil {
		return err
	}
	if o.Target, err = a.target(c, path); err != nil {
		return err
	}
	if o.Kernel, err = chooseKernel(a.ioctl, log); err != nil {
		return err
	}
	cli.IgnoreHangup()
	var printed error
	o.Ready = func(device string, tookOver bool) {
		if _, err := os.Stat(device); errors.Is(err, fs.ErrNotExist) {
			log.Warn("the device is attached, but /dev does not show it", "device", device, "hint", "mount a devtmpfs on /dev, or mknod it")
		}
		log.Info("attached", "device", device, "server", o.Target.String(), "tookOver", tookOver, "reconnects", o.Kernel.Reconnects())
		_, printed = fmt.Fprintln(c.OutOrStdout(), "ready "+device)
		cli.NotifyReady(log)
	}
	ctx := c.Context()
	stop := context.AfterFunc(ctx, func() { cli.NotifyStopping(log) })
	defer stop()
	err = attach.Keep(ctx, o)
	if printed != nil {
		err = errors.Join(err, blocktree.E("print", blocktree.IO, printed))
	}
	return err
}

// target says where the server is.
func (a *attachFlags) target(c *cobra.Command, path string) (attach.Target, error) {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if (a.socket == "") == (a.config == "") {
		return attach.Target{}, cli.Invalid("usage: "+c.UseLine(), "say where the server is: either --socket or --config")
	}
	if a.socket != "" {
		return attach.ParseTarget(a.socket, path)
	}
	cfg, err := config.LoadNBD(config.Source{File: a.config})
	if err != nil {
		return attach.Target{}, err
	}
	for _, l := range cfg.Listeners() {
		if !l.TLS {
			return attach.ParseTarget(l.Address, path)
		}
	}
	return attach.Target{}, &blocktree.Error{Op: "attach", Path: a.config, Kind: blocktree.Unsupported, Err: errors.New("every listener of the server requires TLS"),
		Hint: "the kernel needs the plain socket: give the server a listener plain+unix:PATH, or plain+tcp: on the loopback, beside the others"}
}

// chooseKernel chooses the interface of this machine's kernel.
func chooseKernel(old bool, log *slog.Logger) (attach.Kernel, error) {
	return preferNetlink(old, attach.NewNetlink, "/sys/block/nbd0", log)
}

// preferNetlink takes the old interface where it is asked for, or where there is no other: the kernel does not know netlink for NBD, and yet has the
// device of that directory. Any other failure of netlink stays one: a device that cannot be reconnected is nothing to get by accident.
func preferNetlink(old bool, netlink func() (*attach.Netlink, error), device string, log *slog.Logger) (attach.Kernel, error) {
	if old {
		return &attach.Ioctl{Dev: "/dev"}, nil
	}
	kernel, err := netlink()
	if err == nil {
		return kernel, nil
	}
	if _, statErr := os.Stat(device); blocktree.KindOf(err) == blocktree.NotFound && statErr == nil {
		log.Warn("this kernel has only the old interface: the device ends with its connection, and cannot be reconnected")
		return &attach.Ioctl{Dev: "/dev"}, nil
	}
	return nil, err
}

// completeDevice completes the argument at position with the NBD devices that there are.
func completeDevice(position int) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, _ string) (names []string, d cobra.ShellCompDirective) {
		if len(args) == position {
			devices, _ := attach.NewMachine().Devices() // none: nothing to complete
			for _, d := range devices {
				names = append(names, "/dev/"+d.Name())
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func newDetach() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "detach /dev/nbdN [--force]",
		Short: "Flush and detach a block device that btnbd attach made",
		Long: `detach has the keeper of the device, the process of btnbd attach, flush and detach it, or does so itself where there is none. It
returns when the device is gone.

It refuses while the device is mounted, or used in another such way, and when it cannot be flushed because the server does not
answer. With --force it is detached even so: what uses it gets I/O errors, and what was not flushed is given up.`,
		Example: `  umount /mnt && btnbd detach /dev/nbd0
  btnbd detach /dev/nbd0 --force`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args("/dev/nbdN"),
		ValidArgsFunction:     completeDevice(0),
	}
	c.Flags().BoolVar(&force, "force", false, "detach it even if it is in use or cannot be flushed")
	c.RunE = func(c *cobra.Command, args []string) error {
		index, err := attach.ParseDevice(args[0], false)
		if err != nil {
			return err
		}
		kernel, err := chooseKernel(false, slog.New(slog.DiscardHandler))
		if err != nil {
			return err
		}
		return attach.Detach(c.Context(), attach.DetachOptions{Index: index, Force: force, Kernel: kernel, System: attach.NewMachine()})
	}
	return c
}

func newList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list [--json]",
		Short: "List the NBD devices of this machine",
		Long: `list shows the NBD devices that are attached: the file, the server, and whether the device is "connected" or "waiting" for its server,
and since when. "unkept" is one that nobody would reconnect: its btnbd attach has ended, and the same command again takes it over; or another
program attached it.`,
		Example: `  btnbd list
  btnbd list --json | jq -r '.[] | select(.state == "waiting") | .device'`,
		DisableFlagsInUseLine: true,
		Args:                  cli.Args(),
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		entries, err := attach.List(attach.NewMachine())
		if err != nil {
			return err
		}
		if asJSON {
			return cli.PrintJSON(c.OutOrStdout(), entries)
		}
		return printDevices(c.OutOrStdout(), entries)
	}
	return c
}

func printDevices(w io.Writer, entries []attach.Entry) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "DEVICE\tSIZE\tSTATE\tSINCE\tKEEPER\tPATH\tSERVER")
	for _, e := range entries {
		since, keeper := "-", "-"
		if e.Since != nil {
			since = e.Since.Local().Format(time.DateTime)
		}
		if e.Keeper != 0 {
			keeper = fmt.Sprint(e.Keeper)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Device, cli.FormatSize(e.SizeBytes), e.State, since, keeper, orDash(e.Path), orDash(e.Server))
	}
	if err := t.Flush(); err != nil {
		return blocktree.E("print", blocktree.IO, err)
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
