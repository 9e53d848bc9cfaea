package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	local := flag.String("local", "", "a directory of a local file system, which all users may write")
	mounts := flag.String("mounts", "", "the same directory of the namespace, as mounted by root, alice and bob: DIR,DIR,DIR")
	only := flag.String("only", "", "cases whose names contain this")
	verbose := flag.Bool("v", false, "print each statement")
	flag.Parse()
	dirs := strings.Split(*mounts, ",")
	if *local == "" || len(dirs) != len(names) || flag.NArg() != 0 || os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "tables: error: name a local directory and three mounts, as root\ntables: hint: tables -local DIR -mounts ROOT,ALICE,BOB")
		os.Exit(2)
	}
	unix.Umask(0)
	t := table{local: &tree{}, mount: &tree{}, verbose: *verbose, met: map[deviation]int{}}
	for i, name := range names {
		u := newUser(ids[i])
		t.local.add(name, *local, u)
		t.mount.add(name, dirs[i], u)
	}
	for _, c := range allCases() {
		if strings.Contains(c.name, *only) {
			t.run(c)
		}
	}
	t.report(*only == "")
	if t.bad > 0 {
		os.Exit(1)
	}
}

// names are the users, and ids theirs, of user and group.
var (
	names = []string{"root", "alice", "bob"}
	ids   = []int{0, 1000, 1001}
)

// testcase is some statements, "who does what", in a directory of their own.
type testcase struct {
	name       string
	statements []string
}

// table compares.
type table struct {
	local, mount *tree
	verbose      bool
	met          map[deviation]int // those that are decided
	cases        int
	statements   int
	cut          int // cases that were not compared to their end
	bad          int
}

// run does a case.
func (t *table) run(c testcase) {
	t.cases++
	dir := fmt.Sprintf("case%04d", t.cases)
	for _, x := range []*tree{t.local, t.mount} {
		if got := x.do(dir, "alice mkdir . 0777"); got != "OK" {
			t.fail(c, "making its directory", "OK", got)
			return
		}
	}
	for i, s := range c.statements {
		want, got := t.local.do(dir, s), t.mount.do(dir, s)
		t.statements++
		if t.verbose {
			fmt.Printf("%s: %s: %s, %s\n", c.name, s, want, got)
		}
		if want == got {
			continue
		}
		d, ok := decided(c.name, s, want, got)
		if !ok {
			t.fail(c, strings.Join(c.statements[:i+1], "; "), want, got)
			return
		}
		if t.met[d]++; i < len(c.statements)-1 {
			t.cut++
		}
		return
	}
}

func (t *table) fail(c testcase, what, want, got string) {
	t.bad++
	fmt.Printf("DEVIATION %s: %s: %s on the local file system, %s on the mount\n", c.name, what, want, got)
}

// report says what was met. Where all was done, each deviation that is decided must have been.
func (t *table) report(all bool) {
	fmt.Printf("%d cases, %d statements; %d cases end at a deviation that is decided, %d at another one\n", t.cases, t.statements, t.cut, t.bad)
	whys := map[string]int{}
	for d, n := range t.met {
		whys[d.why] += n
	}
	for _, why := range slices.Sorted(maps.Keys(whys)) {
		fmt.Printf("%5d  %s\n", whys[why], why)
	}
	for _, d := range deviations() {
		if all && t.met[d] == 0 {
			t.bad++
			fmt.Printf("NOT MET: %s, %s, not %s: %s\n", d.statement, d.mount, d.local, d.why)
		}
	}
}

// tree is where the statements are done: a base directory for each user.
type tree struct {
	base  map[string]string
	users map[string]*user
}

func (x *tree) add(name, dir string, u *user) {
	if x.base == nil {
		x.base, x.users = map[string]string{}, map[string]*user{}
	}
	x.base[name], x.users[name] = dir, u
}

// do does a statement in a directory, and says what came of it.
func (x *tree) do(dir, statement string) string {
	words := strings.Fields(statement)
	u := x.users[words[0]]
	if u == nil {
		return "no user " + words[0]
	}
	o, ok := operations()[words[1]]
	if !ok || len(words)-2 < o.words {
		return "no operation " + statement
	}
	a := args{dir: filepath.Join(x.base[words[0]], dir)}
	for _, w := range words[2:] {
		a.words = append(a.words, expand(w))
	}
	return u.as(func() string { return o.do(a) })
}

// expand has <N> be a name of N bytes, <dots:N> a way to here of N bytes, and \ sequences what they are in Go.
func expand(w string) string {
	if _, rest, ok := strings.Cut(w, "<"); ok {
		var n int
		if number, tail, ok := strings.Cut(rest, ">"); ok {
			before := w[:strings.Index(w, "<")]
			if after, dots := strings.CutPrefix(number, "dots:"); dots {
				fmt.Sscan(after, &n)
				return before + strings.Repeat("./", n)[:n] + tail
			}
			fmt.Sscan(number, &n)
			return before + strings.Repeat("n", n) + tail
		}
	}
	return strings.NewReplacer(`\n`, "\n", `\t`, "\t", `\s`, " ", `\xff`, "\xff", `\b`, `\`).Replace(w)
}
