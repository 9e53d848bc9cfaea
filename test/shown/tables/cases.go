package main

import (
	"fmt"
	"strings"
)

// allCases are the tables. The directory of a case is alice's, and everybody may write it.
func allCases() (all []testcase) {
	for _, table := range []struct{ name, text string }{
		{"mkdir", mkdirs}, {"rmdir", rmdirs}, {"open", opens}, {"unlink", unlinks}, {"rename", renames}, {"link", links}, {"symlink", symlinks}, {"chmod", chmods}, {"chown", chowns},
		{"truncate", truncates}, {"utimens", times}, {"special", specials}, {"names", longNames}, {"loops", loops}, {"slashes", slashes}, {"xattr", xattrs},
	} {
		n := 0
		for line := range strings.SplitSeq(strings.TrimSpace(table.text), "\n") {
			n++
			c := testcase{name: fmt.Sprintf("%s.%d", table.name, n)}
			for s := range strings.SplitSeq(line, ";") {
				c.statements = append(c.statements, strings.TrimSpace(s))
			}
			all = append(all, c)
		}
	}
	return append(all, made()...)
}

// made are the tables of everything by everything: modes by ways to open by users, and kinds by kinds of what is renamed.
func made() (all []testcase) {
	add := func(name string, statements ...string) {
		all = append(all, testcase{name, statements})
	}
	for _, mode := range []string{"0", "0200", "0400", "0600", "0604", "0602", "0606", "0640", "0666", "0444", "0222"} {
		for _, flags := range []string{"r", "w", "rw", "w,append", "w,trunc", "r,trunc"} {
			for _, who := range []string{"alice", "bob", "root"} {
				add(fmt.Sprintf("modes.%s.%s.%s", mode, flags, who), "alice create f 0600", "alice write f text", "alice chmod f "+mode, who+" open f "+flags, "root stat f", "root read f")
			}
		}
	}
	for _, mode := range []string{"0777", "0755", "0700", "0711", "0733", "0744", "0500", "0300", "0"} {
		for _, who := range []string{"alice", "bob", "root"} {
			do := func(what string) string { return who + " " + what }
			make := []string{"alice mkdir d 0755", "alice create d/f 0666", "alice mkdir d/e 0777", "alice chmod d " + mode}
			for what, s := range map[string]string{"make": "create d/new 0644", "mkdir": "mkdir d/new 0755", "unlink": "unlink d/f", "rmdir": "rmdir d/e", "list": "list d", "symlink": "symlink f d/s",
				"out": "rename d/f g", "within": "rename d/f d/g", "over": "rename d/e d/g", "read": "open d/f r", "write": "open d/f w", "stat": "stat d/f", "truncate": "truncate d/f 0"} {
				add(fmt.Sprintf("directories.%s.%s.%s", mode, what, who), append(append([]string{}, make...), do(s))...)
			}
		}
	}
	kinds := map[string][]string{"nothing": nil, "file": {"alice create %s 0644"}, "empty": {"alice mkdir %s 0755"}, "full": {"alice mkdir %s 0755", "alice create %s/f 0644"}, "link": {"alice symlink t %s"}}
	for from, a := range kinds {
		for to, b := range kinds {
			var make []string
			for _, s := range a {
				make = append(make, fmt.Sprintf(s, "from"))
			}
			for _, s := range b {
				make = append(make, fmt.Sprintf(s, "to"))
			}
			for _, how := range []string{"rename", "noreplace", "exchange"} {
				for _, who := range []string{"alice", "bob"} {
					add(fmt.Sprintf("%s.%s.over.%s.%s", how, from, to, who), append(append([]string{}, make...), who+" "+how+" from to", who+" lstat from", who+" lstat to")...)
				}
			}
		}
	}
	return all
}

const mkdirs = `
alice mkdir d 0755; alice stat d; bob stat d; bob mkdir d/e 0755
alice mkdir d 0700; alice mkdir d/e 0777; alice stat d/e
alice mkdir d 0755; alice mkdir d 0755
alice create f 0644; alice mkdir f 0755
alice symlink nowhere s; alice mkdir s 0755
alice mkdir d/e 0755
alice create f 0644; alice mkdir f/d 0755
alice mkdir . 0755
alice mkdir d 0; alice stat d; alice mkdir d/e 0755
alice mkdir d 01777; alice stat d
alice mkdir d 02755; alice stat d
root mkdir d 0755; alice mkdir d/e 0755
root mkdir d 0755; root stat d
alice mkdir d 0777; bob mkdir d/e 0755; alice rmdir d/e
`

const rmdirs = `
alice mkdir d 0755; alice rmdir d; alice stat d
alice rmdir d
alice create f 0644; alice rmdir f
alice mkdir d 0755; alice create d/f 0644; alice rmdir d; alice unlink d/f; alice rmdir d
alice mkdir d 0755; alice mkdir d/e 0755; alice rmdir d
alice mkdir d 0755; bob rmdir d
alice mkdir d 0755; alice mkdir d/e 0777; bob rmdir d/e
alice mkdir d 0755; alice symlink d s; alice rmdir s
alice mkdir d 0755; alice rmdir d/.
alice mkdir d 0755; alice mkdir d/e 0755; alice rmdir d/e/..
alice create f 0644; alice rmdir f/d
alice mkdir d 0; alice rmdir d
root mkdir d 0700; alice rmdir d
`

const opens = `
alice open f r
alice open f w,creat 0644; alice stat f
alice open f rw,creat,excl 0640; alice stat f; alice open f rw,creat,excl 0640
alice open f w,creat 0; alice stat f; bob open f r
alice open f r,creat 0644; alice stat f
alice open f rw,creat 0444; alice stat f; alice open f w
alice open f r,creat 0; alice stat f
alice open d/f w,creat 0644
alice create f 0644; alice open f/g w,creat 0644
alice mkdir d 0755; alice open d w
alice mkdir d 0755; alice open d rw
alice mkdir d 0755; alice open d r; alice open d r,dir
alice mkdir d 0755; alice open d r,creat 0644
alice mkdir d 0755; alice open d w,trunc
alice create f 0644; alice open f r,dir
alice create f 0644; alice open f r,nofollow
alice create f 0644; alice symlink f s; alice open s r; alice open s r,nofollow; alice open s w,creat,excl 0644
alice symlink f s; alice open s r; alice open s w,creat 0644; alice stat f
alice create f 0644; alice write f text; alice open f w,trunc; alice stat f
alice create f 0644; alice write f text; alice open f r,trunc; alice stat f
alice create f 0644; alice write f text; bob open f r,trunc; alice stat f
alice create f 0644; alice write f text; alice open f w,creat,trunc 0644; alice stat f
alice create f 0644; alice write f text; alice append f more; alice read f; alice stat f
alice create f 0666; alice write f text; bob append f more; bob read f
alice create f 0644; alice write f text; alice open f r,path; alice open f w,sync
alice create f 0600; bob open f r; bob open f w; bob stat f
alice create f 0; root open f rw; root stat f
alice create f 0400; alice open f w; alice append f x
alice create f 0755; bob open f r; bob open f rw; bob open f w,creat 0644
alice mkdir d 0755; bob open d/f w,creat 0644; bob open d/f r
alice mkdir d 0777; bob open d/f w,creat 0600; alice open d/f r; bob open d/f r
alice create f 0644; bob open f w,creat,excl 0644
alice open f w,creat 04755; alice stat f
alice open f w,creat 01644; alice stat f
alice mkdir d 0755; alice open d rw,tmp 0644
alice create f 0644; alice access f r; alice access f rw; alice access f x
alice create f 0644; bob access f r; bob access f w
alice create f 0600; bob access f r; bob access f f
alice create f 0444; alice access f w
root create f 0444; root access f w
alice mkdir d 0755; alice access d rwx; bob access d w
alice access f f
`

const unlinks = `
alice create f 0644; alice unlink f; alice stat f
alice unlink f
alice mkdir d 0755; alice unlink d
alice create f 0644; bob unlink f; root stat f
alice mkdir d 0755; alice create d/f 0666; bob unlink d/f
alice mkdir d 0777; alice create d/f 0; bob unlink d/f; root stat d/f
alice create f 0; alice unlink f
alice create f 0644; alice symlink f s; alice unlink s; alice stat f; alice lstat s
alice symlink nowhere s; bob unlink s; root lstat s
alice create f 0644; alice unlink f/g
alice mkdir d 0555; alice create d/f 0644
alice mkdir d 0755; alice create d/f 0644; alice chmod d 0555; alice unlink d/f
root create f 0600; alice unlink f
alice mkdir d 0755; root create d/f 0600; alice unlink d/f
alice unlink .
`

const renames = `
alice create a 0644; alice write a text; alice rename a b; alice stat a; alice read b
alice rename a b
alice create a 0644; alice rename a a; alice stat a
alice create a 0644; alice rename a d/b
alice create f 0644; alice create a 0644; alice rename a f/b
alice mkdir d 0755; alice rename d d/e
alice mkdir d 0755; alice mkdir d/e 0755; alice rename d d/e/f
alice mkdir d 0755; alice mkdir d/e 0755; alice rename d/e d
alice mkdir d 0755; alice rename d .
alice mkdir d 0755; alice rename d/. e
alice mkdir d 0755; alice rename d/.. e
alice mkdir d 0755; alice create d/f 0644; alice mkdir e 0755; alice rename d e; alice stat e/f; alice stat d
alice mkdir d 0755; alice create a 0644; alice write a new; alice create d/b 0644; alice write d/b older; alice rename a d/b; alice read d/b; alice stat a
alice create a 0644; bob rename a b; alice stat b
alice mkdir d 0755; alice create d/a 0644; bob rename d/a b
alice mkdir d 0755; alice create a 0644; bob rename a d/a
alice mkdir d 0755; alice create d/a 0644; alice create a 0644; bob rename a d/a
alice mkdir d 0777; alice create d/a 0600; bob rename d/a b; alice stat b
alice mkdir d 0777; alice create d/a 0600; bob create b 0600; bob rename b d/a; alice open d/a r; bob open d/a r
alice mkdir d 0777; alice mkdir d/e 0755; bob rename d/e d/f
alice mkdir d 0777; alice mkdir d/e 0755; bob rename d/e f
alice mkdir d 0777; alice mkdir d/e 0777; bob rename d/e f
alice mkdir d 01777; alice create d/a 0666; bob rename d/a d/b; bob unlink d/a
alice create a 0644; alice symlink a s; alice rename s t; alice readlink t; alice stat a
alice create a 0644; alice symlink b s; alice rename a s; alice lstat s
alice mkdir d 0755; alice symlink d s; alice create a 0644; alice rename a s/b; alice stat d/b
alice create a 0444; alice create b 0; alice rename a b; alice stat b
root create ofroot 0600; root write ofroot text; alice rename ofroot b; root read b
alice mkdir d 0755; root mkdir d/e 0755; alice rename d/e d/f
alice mkdir d 0755; alice mkdir d/e 0; alice rename d/e f
`

const links = `
alice create f 0644; alice link f g
alice link f g
alice create f 0644; alice create g 0644; alice link f g
alice mkdir d 0755; alice link d e
alice create f 0644; alice link f d/g
alice create f 0644; alice link f f/g
alice symlink f s; alice link s t
alice create f 0644; bob link f g
`

const symlinks = `
alice symlink target s; alice readlink s; alice lstat s; bob readlink s
alice symlink target s; alice symlink other s
alice create f 0644; alice symlink target f
alice symlink target d/s
alice create f 0644; alice symlink target f/s
alice mkdir d 0755; bob symlink target d/s
alice create f 0644; alice readlink f
alice mkdir d 0755; alice readlink d
alice readlink s
alice symlink <1023> s; alice readlink s; alice lstat s
alice symlink <4095> s; alice readlink s; alice lstat s
alice symlink <4096> s
alice symlink /nowhere/at\sall s; alice readlink s; alice stat s
alice mkdir d 0755; alice symlink d s; alice create s/f 0644; alice stat d/f
alice create f 0644; alice symlink f s; bob chmod s 0600; alice chmod s 0600; alice stat f; alice lstat s
alice create f 0644; alice symlink f s; alice truncate s 10; alice stat f
`

const chmods = `
alice create f 0644; alice chmod f 0600; alice stat f
alice create f 0644; alice chmod f 0; alice stat f; alice open f r; alice chmod f 0644; alice open f r
alice create f 0644; alice chmod f 0777; alice stat f
alice create f 0666; bob chmod f 0600; alice stat f
alice mkdir d 0777; bob chmod d 0700; alice chmod d 0700; alice stat d
alice create f 0644; root chmod f 0600; root stat f; bob open f r
root create f 0644; alice chmod f 0600
alice chmod f 0644
alice create f 0644; alice chmod f/g 0644
alice create f 0644; alice chmod f 04755; alice stat f
alice create f 0644; alice chmod f 02755; alice stat f
alice create f 0644; alice chmod f 01644; alice stat f
alice mkdir d 0755; alice chmod d 01777; alice stat d
alice mkdir d 0755; alice chmod d 02755; alice stat d
alice create f 0644; alice fchmod f rw 0600; alice stat f
alice create f 0644; alice fchmod f r 0400; alice stat f; alice open f w
alice create f 0644; bob fchmod f r 0400
alice mkdir d 0755; alice fchmod d r 0700; alice stat d
alice create f 0644; alice chmod f 0200; alice open f w; alice open f r; alice write f text
`

const chowns = `
alice create f 0644; alice chown f 1000 1000; alice stat f
alice create f 0644; alice chown f -1 -1
alice create f 0644; alice chown f 1001 1000
alice create f 0644; alice chown f 1000 1001
alice create f 0644; bob chown f 1001 1001
alice create f 0644; bob chown f -1 -1
alice create f 0644; root chown f 1001 1001; bob open f w
alice chown f 1000 1000
alice create f 0644; alice chown f/g 1000 1000
alice symlink nowhere s; alice lchown s 1000 1000; alice chown s 1000 1000
alice mkdir d 0755; alice chown d 1000 1000; root chown d 0 0
`

const truncates = `
alice create f 0644; alice truncate f 100; alice stat f; alice truncate f 10; alice stat f; alice truncate f 0; alice stat f
alice create f 0644; alice write f text; alice truncate f 2; alice read f
alice create f 0644; alice write f text; alice truncate f 6; alice stat f
alice truncate f 0
alice mkdir d 0755; alice truncate d 0
alice create f 0644; alice truncate f/g 0
alice create f 0644; alice truncate f -1
alice create f 0644; bob truncate f 0
alice create f 0666; bob truncate f 10; bob stat f; root stat f
alice create f 0444; alice truncate f 0
alice create f 0644; alice write f text; alice ftruncate f r 0
alice create f 0644; alice write f text; alice ftruncate f w 1; alice stat f
alice create f 0644; alice ftruncate f rw 5000; alice stat f
alice create f 0644; alice ftruncate f rw -1
alice create f 0644; alice truncate f 1000000000; alice stat f
alice create f 0644; alice truncate f 9223372036854775807
`

const times = `
alice create f 0644; alice utimens f 100 200; alice time f
alice create f 0644; alice utimens f omit 200; alice time f
alice create f 0644; alice utimens f omit omit
alice create f 0644; alice utimens f 100 omit
alice create f 0644; alice utimens f now omit
alice create f 0644; alice utimens f now now
alice create f 0644; alice utimens f now 7; alice time f
alice create f 0644; bob utimens f 100 200
alice create f 0644; bob utimens f now now
alice create f 0666; bob utimens f now now
alice create f 0666; bob utimens f 100 200
alice create f 0666; bob utimens f omit now
alice create f 0444; alice utimens f now now; alice utimens f 1 1; alice time f
alice create f 0644; root utimens f 100 200; root time f; bob time f
alice mkdir d 0755; alice utimens d 100 200; alice time d
alice symlink nowhere s; alice utimens s 100 200 link; alice time s
alice symlink nowhere s; alice utimens s 100 200
alice utimens f now now
alice create f 0644; alice utimens f/g now now
alice create f 0644; alice utimens f 100 -1; alice time f
alice create f 0644; alice utimens f 100 4294967296; alice time f
`

const specials = `
alice mkfifo p 0644; alice stat p
alice create f 0644; alice mkfifo f 0644
alice mkfifo d/p 0644
alice mkdir d 0755; bob mkfifo d/p 0644
alice mksocket s 0644
root mkchar c 0644
root mkblock b 0644
alice mkchar c 0644
alice mkreg f 0644; alice stat f; alice open f rw
alice mkreg f 0444; alice stat f; alice open f w
alice create f 0644; alice mkreg f 0644
`

const longNames = `
alice create <255> 0644; alice stat <255>; alice unlink <255>
alice create <256> 0644
alice stat <256>
alice mkdir <255> 0755; alice create <255>/<255> 0644; alice rename <255>/<255> f; alice rmdir <255>
alice mkdir <256> 0755
alice symlink t <256>
alice create f 0644; alice rename f <255>; alice stat <255>
alice create f 0644; alice rename f <256>
alice rename <256> f
alice unlink <256>
alice rmdir <256>
alice create f 0644; alice truncate <256> 0; alice chmod <256> 0; alice open <256> r
alice create f 0644; alice stat <dots:3000>f
alice create f 0644; alice stat <dots:4096>f
alice create <dots:4096>f 0644
alice rename <dots:4096>f g
alice create with\sblank 0644; alice list .
alice create with\nline 0644; alice list .
alice create with\ttab 0644; alice list .
alice create with\xffbyte 0644; alice list .
alice create with\bslash 0644; alice list .
alice create .hidden 0644; alice create -dash 0644; alice create a:b 0644; alice create * 0644; alice create ~ 0644; alice list .
alice create ... 0644; alice create ..a 0644; alice list .
alice create Größe 0644; alice list .; alice unlink Größe
alice mkdir A 0755; alice mkdir a 0755; alice list .
`

const loops = `
alice symlink b a; alice symlink a b; alice stat a; alice open a r; alice open a w,creat 0644; alice lstat a
alice symlink b a; alice symlink a b; alice mkdir a/d 0755; alice unlink a/f; alice rmdir a/d; alice rename a/f g; alice truncate a 0; alice chmod a 0644; alice readlink a
alice symlink s s; alice open s r,nofollow; alice create s/f 0644; alice symlink t s/u
alice symlink b a; alice symlink a b; alice create f 0644; alice rename f a; alice lstat a
`

const slashes = `
alice mkdir d/ 0755; alice stat d/; alice rmdir d/
alice create f 0644; alice stat f/; alice open f/ r; alice unlink f/; alice truncate f/ 0; alice chmod f/ 0600
alice create f/ 0644
alice open f/ w,creat 0644
alice create f 0644; alice rename f g/; alice rename f/ g
alice mkdir d 0755; alice rename d e/; alice stat e; alice rename e/ d; alice stat d
alice mkdir d 0755; alice symlink d s; alice lstat s/; alice unlink s/; alice rmdir s/; alice stat d
alice create f 0644; alice symlink f s; alice lstat s/; alice readlink s/
alice symlink t s/
alice symlink nowhere s; alice mkdir s/ 0755
alice mkdir d 0755; alice create d//f 0644; alice stat d/./f; alice stat d/../d//f
`

const xattrs = `
alice create f 0644; alice setxattr f user.a value; alice getxattr f user.a; bob getxattr f user.a
alice create f 0644; bob setxattr f user.a value
alice create f 0666; bob setxattr f user.a value; alice getxattr f user.a
alice create f 0600; alice setxattr f user.a value; bob getxattr f user.a
alice create f 0644; alice getxattr f user.a
alice setxattr f user.a value
`
