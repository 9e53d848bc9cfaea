package nbd

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"blocktree"
	"blocktree/blockdev"
	"blocktree/blockdev/memfile"
)

// need skips a test whose program is not installed.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("needs " + program)
	}
}

// run runs a program that must succeed and returns what it printed.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

func clientBed(t *testing.T) *bed {
	return newBed(t, setup{file: memfile.Options{Info: blocktree.FileInfo{SizeBytes: 64 << 20}}, cacheBytes: 8 << 20})
}

func TestNbdinfo(t *testing.T) {
	need(t, "nbdinfo")
	b := clientBed(t)
	b.export(blockdev.Export{Name: "/ro", Device: b.dev, ReadOnly: true})
	var info struct {
		Protocol string `json:"protocol"`
		Exports  []map[string]any
	}
	if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--json", b.uri("/vm/disk0"))), &info); err != nil {
		t.Fatal(err)
	}
	if info.Protocol != "newstyle-fixed" || len(info.Exports) != 1 {
		t.Fatalf("%+v", info)
	}
	for key, want := range map[string]any{"export-size": 64e6 * 1.048576, "description": "the first disk", "is_read_only": false,
		"can_flush": true, "can_fua": true, "can_trim": true, "can_zero": true, "can_fast_zero": true,
		"can_multi_conn": true, "block_size_minimum": 1.0, "block_size_preferred": 4096.0,
		"block_size_maximum": 33554432.0, "can_df": true, "can_cache": true} {
		if got := info.Exports[0][key]; got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	if got := run(t, "nbdinfo", "--size", b.uri("ro")); got != "67108864\n" {
		t.Errorf("size %q", got)
	}
	list := run(t, "nbdinfo", "--list", b.uri(""))
	if !strings.Contains(list, `export="/vm/disk0"`) || !strings.Contains(list, `export="/ro"`) {
		t.Errorf("%s", list)
	}
	for _, can := range []string{"connect", "read", "write", "flush", "fua", "trim", "zero", "fast-zero", "multi-conn",
		"cache", "df", "structured-reply"} {
		run(t, "nbdinfo", "--can", can, b.uri("/vm/disk0"))
	}
	run(t, "nbdinfo", "--is", "read-only", b.uri("/ro"))
	if err := exec.Command("nbdinfo", b.uri("/vm/disk1")).Run(); err == nil {
		t.Error("found what is not there")
	}
}

// TestActivatedByClient lets nbdinfo make the socket and start the server, as systemd does.
func TestActivatedByClient(t *testing.T) {
	need(t, "nbdinfo")
	t.Setenv(activatedEnv, "1")
	if got := run(t, "nbdinfo", "--size", "[", os.Args[0], "]"); got != "503808\n" {
		t.Fatalf("size %q", got)
	}
}

// mapped is a device's map as a program prints it: in one or the other half of the names.
type mapped []struct {
	Start, Offset, Length uint64
	Type                  int
	Zero, Data            bool
}

// checkMaps compares what programs say of a device with the lengths of its extents, of which the first is a hole.
func checkMaps(t *testing.T, uri string, want ...uint64) {
	t.Helper()
	var nbdinfo, qemu mapped
	if err := json.Unmarshal([]byte(run(t, "nbdinfo", "--map", "--json", uri)), &nbdinfo); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(run(t, "qemu-img", "map", "-f", "raw", "--output=json", uri)), &qemu); err != nil {
		t.Fatal(err)
	}
	if len(nbdinfo) != len(want) || len(qemu) != len(want) {
		t.Fatalf("%+v, %+v", nbdinfo, qemu)
	}
	at := uint64(0)
	for i, n := range want {
		hole := i%2 == 0
		if x := nbdinfo[i]; x.Offset != at || x.Length != n || (x.Type == 3) != hole || x.Type != 0 && x.Type != 3 {
			t.Errorf("nbdinfo: extent %d is %+v", i, x)
		}
		if x := qemu[i]; x.Start != at || x.Length != n || x.Zero != hole || x.Data == hole {
			t.Errorf("qemu-img: extent %d is %+v", i, x)
		}
		at += n
	}
}

// TestMaps has the holes of a device told by those who ask for them, and kept by those who copy it.
func TestMaps(t *testing.T) {
	for _, program := range []string{"nbdinfo", "nbdcopy", "qemu-img"} {
		need(t, program)
	}
	b := clientBed(t)
	const kib = 1 << 10
	uri := b.uri("/vm/disk0")
	checkMaps(t, uri, 64<<20)
	if err := b.dev.WriteAt(t.Context(), bytes.Repeat([]byte{7}, 1<<20), 10<<20, false); err != nil {
		t.Fatal(err)
	}
	checkMaps(t, uri, 10<<20, 1<<20, 53<<20)
	if err := b.dev.Trim(t.Context(), 10<<20+512*kib, 128*kib, false); err != nil {
		t.Fatal(err)
	}
	checkMaps(t, uri, 10<<20, 512*kib, 128*kib, 384*kib, 53<<20)

	copied := filepath.Join(t.TempDir(), "copy")
	before := b.file.Calls(memfile.Read)
	run(t, "nbdcopy", "--requests=1", uri, copied) // reads what is data only
	if n := b.file.Calls(memfile.Read) - before; n == 0 || n > 8 {
		t.Errorf("%d reads for 1 MiB of data", n)
	}
	info, err := os.Stat(copied)
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 2<<20 || info.Size() != 64<<20 {
		t.Errorf("a copy of %d bytes takes %d", info.Size(), used)
	}
	if err := b.dev.Zero(t.Context(), 0, b.dev.Size(), false); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{ // holes become holes; --allocated wants none, and gets what takes no room all the same
		{"nbdcopy", copied, uri}, {"nbdcopy", "--allocated", copied, uri}, {"qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", copied, uri},
	} {
		run(t, args[0], args[1:]...)
		checkMaps(t, uri, 10<<20, 512*kib, 128*kib, 384*kib, 53<<20)
		run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", copied, uri)
	}
}

func TestNbdcopy(t *testing.T) {
	need(t, "nbdcopy")
	b := clientBed(t)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	image := make([]byte, 64<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for at := 0; at+1<<20 <= len(image); at += 2 << 20 { // every other MiB is a hole
		for i := range 1 << 18 {
			image[at+4*i] = byte(r.Uint32())
		}
	}
	if err := os.WriteFile(in, image, 0o600); err != nil {
		t.Fatal(err)
	}
	uri := b.uri("/vm/disk0")
	for _, args := range [][]string{
		{"--requests=64", "--connections=8", "--threads=4", "--flush"}, {"--synchronous"}, {"--allocated"}, {"--destination-is-zero"},
	} {
		if args[0] == "--destination-is-zero" {
			if err := b.dev.Zero(t.Context(), 0, b.dev.Size(), true); err != nil {
				t.Fatal(err)
			}
		}
		run(t, "nbdcopy", append(args, in, uri)...)
		os.Remove(out)
		run(t, "nbdcopy", "--requests=64", "--connections=8", "--threads=4", uri, out)
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, image) {
			t.Fatalf("%v: other bytes came back (%v)", args, err)
		}
	}
}

func TestQemuIO(t *testing.T) {
	need(t, "qemu-io")
	b := clientBed(t)
	commands, err := os.ReadFile(filepath.Join("testdata", "qemu-io"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-f", "raw", b.uri("/vm/disk0")}
	for command := range strings.Lines(string(commands)) {
		args = append(args, "-c", strings.TrimSpace(command))
	}
	if out := run(t, "qemu-io", args...); strings.Contains(out, "failed") {
		t.Fatal(out)
	}
}

func TestQemuImg(t *testing.T) {
	need(t, "qemu-img")
	b := clientBed(t)
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	image := bytes.Repeat([]byte("sixteen letters."), 64<<20/16)
	clear(image[10<<20 : 30<<20])
	if err := os.WriteFile(in, image, 0o600); err != nil {
		t.Fatal(err)
	}
	uri := b.uri("/vm/disk0")
	run(t, "qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", in, uri)
	run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", in, uri)
	run(t, "qemu-img", "bench", "-f", "raw", "-w", "-c", "2000", "-d", "32", "-s", "3000", "--flush-interval=100", uri)
}

func TestFioVerify(t *testing.T) {
	need(t, "fio")
	b := clientBed(t)
	run(t, "fio", "--name=v", "--ioengine=nbd", "--uri="+b.uri("/vm/disk0"), "--rw=randwrite", "--bsrange=512-256k",
		"--iodepth=32", "--verify=crc32c", "--verify_fatal=1", "--fsync=32", "--size=64m", "--output="+os.DevNull)
	if n := b.file.Calls(memfile.Flush); n == 0 {
		t.Fatal("no flush arrived")
	}
}

// TestNbdsh has the errors that only libnbd without its own checks lets through.
func TestNbdsh(t *testing.T) {
	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import nbd").Run() != nil {
		t.Skip("needs nbdsh")
	}
	b := clientBed(t)
	run(t, python, filepath.Join("testdata", "nbdsh.py"), b.uri(""))
}

// TestSecureClients: libnbd and qemu, with the files where they look for them.
func TestSecureClients(t *testing.T) {
	need(t, "nbdinfo")
	need(t, "nbdcopy")
	need(t, "qemu-img")
	a := newAuthority(t)
	a.client("vm1", edKey(t))
	l, err := Listen("tcp:127.0.0.1:0", SocketMode)
	if err != nil {
		t.Fatal(err)
	}
	newBed(t, setup{file: memfile.Options{Info: blocktree.FileInfo{SizeBytes: 64 << 20}}, tls: a.load(CertificatesRequired),
		listener: func(testing.TB) net.Listener { return l }})
	address := "tls+tcp:" + l.Addr().String()
	bare, err := URI(address, "/vm/disk0")
	if err != nil {
		t.Fatal(err)
	}
	uri := bare + "?tls-certificates=" + a.dir
	if got := run(t, "nbdinfo", "--size", uri); got != "67108864\n" {
		t.Errorf("size %q", got)
	}
	for _, refused := range []string{bare, strings.Replace(bare, "nbds:", "nbd:", 1)} {
		if err := exec.Command("nbdinfo", "--size", refused).Run(); err == nil {
			t.Errorf("%s: served", refused)
		}
	}
	in, out := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "out")
	image := bytes.Repeat([]byte("sixteen letters."), 64<<20/16)
	if err := os.WriteFile(in, image, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "nbdcopy", "--requests=64", "--connections=4", in, uri)
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	run(t, "qemu-img", "convert", "--object", "tls-creds-x509,id=tls0,endpoint=client,dir="+a.dir, "--image-opts",
		"driver=nbd,host="+host+",port="+port+",export=/vm/disk0,tls-creds=tls0", "-O", "raw", out)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, image) {
		t.Fatalf("other bytes came back (%v)", err)
	}
}
