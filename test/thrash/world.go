package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The files under load, by the names that they have in the cluster.
const (
	registersPath = "/vm/registers"
	mirrorPath    = "/vm/mirror"
	fioPath       = "/vm/fio"

	registersSize = "4MiB"
	mirrorSize    = "32MiB"
	fioSize       = "48MiB"
)

// port is where every node listens on its own address.
const port = 7001

// world is everything that a run has made.
type world struct {
	o       options
	dir     string
	began   time.Time
	journal *os.File
	net     *network
	nodes   []*node
	writer  *server
	reader  *server
	heir    *server // takes the files over when a fault says so
	loads   *loads
	wg      sync.WaitGroup // supervisors
	stop    context.CancelFunc
	ctx     context.Context // of the whole run: it ends when somebody stops it

	narrowed   sync.Mutex // held by the one fault that leaves the writer a single node
	mu         sync.Mutex
	processes  map[*process]bool // that run
	faults     map[string]int    // made, by kind
	skipped    int               // because the target was busy with another
	notes      map[string]int    // what is no violation, and worth a number
	violations []string
}

func newWorld(ctx context.Context, o options) (*world, error) {
	dir, err := os.MkdirTemp(os.TempDir(), "thrash.")
	if err != nil {
		return nil, err
	}
	w := &world{o: o, dir: dir, began: time.Now(), faults: map[string]int{}, notes: map[string]int{}, stop: func() {},
		ctx: ctx, processes: map[*process]bool{}}
	w.journal, err = os.Create(filepath.Join(dir, "journal"))
	return w, err
}

// say prints a line, with the time since the start.
func (w *world) say(format string, args ...any) {
	line := fmt.Sprintf("%7.1f  ", time.Since(w.began).Seconds()) + fmt.Sprintf(format, args...)
	fmt.Println(line)
	fmt.Fprintln(w.journal, line)
}

// log is say into the journal only.
func (w *world) log(format string, args ...any) {
	fmt.Fprintf(w.journal, "%7.1f  %s\n", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}

// violate notes what must never happen. The run goes on. Of one that somebody stopped nothing is demanded.
func (w *world) violate(format string, args ...any) {
	if w.ctx.Err() != nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	w.say("VIOLATION: %s", text)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, text)
}

func (w *world) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes[what]++
}

// launch is startProcess of a process that ends with the run; none is started once somebody has stopped that.
func (w *world) launch(log string, line []string) (*process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		return nil, w.ctx.Err()
	}
	p, err := startProcess(log, line)
	if err != nil {
		return nil, err
	}
	w.processes[p] = true
	go func() { // ends with the process
		<-p.done
		w.mu.Lock()
		delete(w.processes, p)
		w.mu.Unlock()
	}()
	return p, nil
}

// abandon ends every process at once, when somebody stops the run: operations without an answer, and whoever waits for a process to
// stop by itself, would keep it for a minute and more.
func (w *world) abandon() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.processes {
		p.mayEnd.Store(true)
		p.signal(syscall.SIGKILL)
	}
}

// start makes the network and the files and starts all processes. It returns when the cluster is healthy.
func (w *world) start(ctx context.Context) (err error) {
	if w.net, err = newNetwork(fmt.Sprintf("bt%d-", os.Getpid())); err != nil {
		return err
	}
	if err := w.generate(); err != nil {
		return err
	}
	own, stop := context.WithCancel(ctx)
	w.stop = stop
	for _, n := range w.nodes {
		if err := n.disk.attach(); err != nil {
			return err
		}
		if err := n.begin(); err != nil {
			return err
		}
	}
	for _, s := range []*server{w.writer, w.reader} {
		w.wg.Go(func() { s.supervise(own) })
		if err := s.await(ctx, 90*time.Second); err != nil { // the writer makes the files that the reader opens
			return err
		}
	}
	return w.awaitSync(ctx, 60*time.Second)
}

// generate makes keys and configurations with btnode playground, and puts the addresses of the namespaces into them.
func (w *world) generate() error {
	p := filepath.Join(w.dir, "p")
	if err := tool("", filepath.Join(w.o.bin, "btnode"), "playground", "--generate", "--dir", p,
		"--nodes", fmt.Sprint(w.o.nodes), "--code", w.o.code, "--size", "16MiB"); err != nil {
		return err
	}
	replace := []string{}
	listen := regexp.MustCompile(`(?m)^listen: (127\.0\.0\.1:\d+)$`)
	for i := range w.o.nodes {
		name := fmt.Sprintf("node%d", i+1)
		h, err := w.net.host(name)
		if err != nil {
			return err
		}
		n := &node{w: w, name: name, host: h, config: filepath.Join(p, name, "btnode.yaml"), log: filepath.Join(w.dir, name+".log")}
		n.disk = newDisk(w, n)
		w.nodes = append(w.nodes, n)
		text, err := os.ReadFile(n.config)
		if err != nil {
			return err
		}
		found := listen.FindSubmatch(text)
		if found == nil {
			return fmt.Errorf("%s has no address", n.config)
		}
		replace = append(replace, string(found[1]), fmt.Sprintf("%s:%d", h.address, port))
	}
	addresses := strings.NewReplacer(replace...)
	for _, n := range w.nodes {
		if err := rewrite(n.config, n.config, func(text string) string {
			return strings.Replace(addresses.Replace(text), "dir: store", "dir: "+n.disk.store(), 1)
		}); err != nil {
			return err
		}
	}
	client := filepath.Join(p, "client.yaml")
	if err := rewrite(client, client, addresses.Replace); err != nil {
		return err
	}
	return w.generateServers(p, addresses)
}

// generateServers makes the servers: the writer with all files, its heir, and the reader with the registers, read only.
func (w *world) generateServers(p string, addresses *strings.Replacer) (err error) {
	export := func(path, size string) string {
		return fmt.Sprintf("  - path: %s\n    create: {size: %s, code: %s}\n", path, size, w.o.code)
	}
	all := "exports:\n" + export(registersPath, registersSize) + export(mirrorPath, mirrorSize) + export(fioPath, fioSize)
	make := func(name, exports, identity string) *server {
		if err != nil {
			return nil
		}
		s := &server{w: w, name: name, socket: filepath.Join(w.dir, name+".sock"), log: filepath.Join(w.dir, name+".log"),
			config: filepath.Join(p, name+".yaml")}
		if s.host, err = w.net.host(name); err != nil {
			return nil
		}
		err = rewrite(filepath.Join(p, "btnbd.yaml"), s.config, func(text string) string {
			text, _, _ = strings.Cut(addresses.Replace(text), "exports:\n")
			text = regexp.MustCompile(`(?m)^listen: .*$`).ReplaceAllLiteralString(text, "listen: unix:"+s.socket)
			return strings.NewReplacer("path: /btnbd", "path: /"+identity, "btnbd.key", identity+".key", "btnbd.cred", identity+".cred").
				Replace(text) + exports
		})
		return s
	}
	w.writer = make("writer", all, "btnbd")
	w.heir = make("heir", all, "btnbd")
	w.reader = make("reader", "exports:\n  - path: "+registersPath+"\n    readOnly: true\n", "client")
	return err
}

// rewrite puts what f makes of a file into another.
func rewrite(from, to string, f func(string) string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, []byte(f(string(text))), 0o600)
}

// close ends every process and takes everything back that the run has made. The files are kept after a failure.
func (w *world) close(failed bool) error {
	var all error
	w.stop()
	for _, s := range []*server{w.writer, w.heir, w.reader} {
		if s != nil {
			s.mu.Lock()
			s.over = true
			if !s.proc.ended() {
				s.proc.kill()
			}
			s.mu.Unlock()
		}
	}
	for _, n := range w.nodes {
		n.mu.Lock()
		n.over = true
		if !n.proc.ended() {
			n.proc.kill()
		}
		n.mu.Unlock()
	}
	w.wg.Wait()
	for _, n := range w.nodes {
		all = errors.Join(all, n.disk.detach())
	}
	if w.net != nil {
		all = errors.Join(all, w.net.close())
	}
	all = errors.Join(all, w.journal.Close())
	if failed || w.o.keep || all != nil {
		fmt.Fprintln(os.Stderr, "thrash: logs and files are kept in", w.dir)
		return all
	}
	return os.RemoveAll(w.dir)
}
