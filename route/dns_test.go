package route_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"blocktree"
	"blocktree/route"
)

// zone is what the test's DNS server says; it can change.
type zone struct {
	mu      sync.Mutex
	records []dns.RR
}

func (z *zone) set(t *testing.T, records ...string) {
	t.Helper()
	z.mu.Lock()
	defer z.mu.Unlock()
	z.records = nil
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		z.records = append(z.records, rr)
	}
}

// ServeDNS implements dns.Handler.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	known := false
	for _, rr := range z.records {
		if h := rr.Header(); strings.EqualFold(h.Name, q.Question[0].Name) {
			known = true
			if h.Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
	}
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		m.Truncate(512)
	}
	_ = w.WriteMsg(m) // who does not wait for it asks again
}

// serveDNS runs a server on loopback, and returns its address.
func serveDNS(t *testing.T, z *zone) string {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := net.Listen("tcp", packets.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: z}, {Listener: streams, Handler: z}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		done := make(chan struct{})
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return packets.LocalAddr().String()
}

const name = "example.test"

func TestDNS(t *testing.T) {
	z := &zone{}
	d := route.DNS{Root: principal("root"), Name: name, Server: serveDNS(t, z)}
	txt := "_blocktree._udp.example.test. TXT \"root=" + d.Root.String() + "\""
	srv := func(priority, port int, target string) string {
		return fmt.Sprintf("_blocktree._udp.example.test. SRV %d 0 %d %s.", priority, port, target)
	}
	many := []string{txt, "h.test. A 192.0.2.1"}
	for i := range 3 * blocktree.SeedsMax { // over TCP: it does not fit a packet
		many = append(many, srv(i, 7000+i, "h.test"))
	}
	addresses := []string{txt, srv(0, 7000, "h.test")}
	for i := range 3 * blocktree.SeedAddressesMax {
		addresses = append(addresses, fmt.Sprintf("h.test. A 192.0.2.%d", i))
	}
	for _, x := range []struct {
		name    string
		records []string
		want    string // endpoints, seeds apart by a bar
		kind    blocktree.Kind
	}{
		{"one", []string{txt, srv(0, 7001, "h.test"), "h.test. A 192.0.2.1"}, "192.0.2.1:7001", 0},
		{"both addresses", []string{txt, srv(0, 7001, "h.test"), "h.test. A 192.0.2.1", "h.test. AAAA 2001:db8::1"}, "192.0.2.1:7001 [2001:db8::1]:7001", 0},
		{"by priority", []string{txt, srv(2, 3, "c.test"), srv(0, 1, "a.test"), srv(1, 2, "b.test"), "a.test. A 192.0.2.1", "b.test. A 192.0.2.2", "c.test. A 192.0.2.3"},
			"192.0.2.1:1|192.0.2.2:2|192.0.2.3:3", 0},
		{"one is not there", []string{txt, srv(0, 1, "gone.test"), srv(1, 2, "b.test"), "b.test. A 192.0.2.2"}, "192.0.2.2:2", 0},
		{"other records beside it", []string{"_blocktree._udp.example.test. TXT \"v=spf1 -all\"", txt, srv(0, 1, "a.test"), "a.test. A 192.0.2.1"}, "192.0.2.1:1", 0},
		{"many", many, "32", 0},
		{"many addresses", addresses, "8", 0},
		{"another root", []string{"_blocktree._udp.example.test. TXT root=" + principal("other").String(), srv(0, 1, "a.test"), "a.test. A 192.0.2.1"}, "", blocktree.Unauthenticated},
		{"this root and another", []string{txt, "_blocktree._udp.example.test. TXT root=" + principal("other").String(), srv(0, 1, "a.test"), "a.test. A 192.0.2.1"}, "", blocktree.Unauthenticated},
		{"rubbish for a root", []string{"_blocktree._udp.example.test. TXT root=\\009\\200" + strings.Repeat("x", 200), srv(0, 1, "a.test")}, "", blocktree.Unauthenticated},
		{"no root", []string{"_blocktree._udp.example.test. TXT hello", srv(0, 1, "a.test"), "a.test. A 192.0.2.1"}, "", blocktree.NotFound},
		{"no service", []string{txt}, "", blocktree.NotFound},
		{"no addresses", []string{txt, srv(0, 1, "gone.test")}, "", blocktree.NotFound},
		{"nothing", nil, "", blocktree.NotFound},
	} {
		z.set(t, x.records...)
		seeds, err := d.Seeds(t.Context())
		var parts []string
		for _, s := range seeds {
			parts = append(parts, strings.Join(s.Endpoints, " "))
		}
		got := strings.Join(parts, "|")
		if len(seeds) > 8 {
			got = fmt.Sprint(len(seeds))
		} else if len(seeds) == 1 && len(seeds[0].Endpoints) > 2 {
			got = fmt.Sprint(len(seeds[0].Endpoints))
		}
		if got != x.want || blocktree.KindOf(err) != x.kind || err != nil && blocktree.HintOf(err) == "" {
			t.Errorf("%s: %q, %v; want %q, %v", x.name, got, err, x.want, x.kind)
		}
	}
}

// A server that never answers, or is not there, costs a bounded time, and is said to be what is wrong.
func TestDNSUnavailable(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := route.DNS{Root: principal("root"), Name: name, Server: "192.0.2.1:53", Dial: func(context.Context, string, string) (net.Conn, error) {
		cancel()
		return nil, blocktree.E("dial", blocktree.Unavailable, nil)
	}}
	if _, err := d.Seeds(ctx); blocktree.KindOf(err) != blocktree.Unavailable || !strings.Contains(blocktree.HintOf(err), "domain.seeds") {
		t.Error(err)
	}
}

// The name of another domain leads nowhere, and one whose DNS somebody has taken over leads to machines that prove nothing.
func TestFindThroughDNS(t *testing.T) {
	w, evil := newWorld(t, 1, "", "/a"), newWorld(t, 1, "")
	z := &zone{}
	d := route.DNS{Root: w.key.Principal(), Name: name, Server: serveDNS(t, z)}
	f := w.finder(func(c *route.FinderConfig) { c.Seeds = d })
	records := func(root blocktree.Principal, host string) {
		z.set(t, "_blocktree._udp.example.test. TXT root="+root.String(), "_blocktree._udp.example.test. SRV 0 0 7000 h.test.", "h.test. A "+host)
	}
	good := strings.TrimSuffix(w.clusters[w.root].hosts[0].runtime.Endpoints[0], ":7000")
	records(evil.key.Principal(), good)
	if _, err := f.Closest(t.Context(), w.at("/a/x"), "sector"); blocktree.KindOf(err) != blocktree.Unauthenticated {
		t.Error("a wrong root principal in DNS:", err)
	}
	fake := evil.clusters[evil.root].hosts[0]
	w.hosts["192.0.2.66:7000"] = &host{runtime: fake.runtime, signer: fake.signer, cluster: fake.cluster, say: func(q route.Query, _ func() ([]byte, error)) ([]byte, error) {
		return route.SealUnchecked(fake.signer, route.Answer{Query: q, Directory: w.root, Outcome: route.Nobody, TTL: time.Minute}), nil
	}}
	records(w.key.Principal(), "192.0.2.66")
	if _, err := f.Closest(t.Context(), w.at("/a/x"), "sector"); blocktree.KindOf(err) != blocktree.Unauthenticated || f.Stats().SeedsAsked != 1 {
		t.Error("DNS is asked at once again:", err)
	}
	w.now = func() time.Time { return time.Now().Add(blocktree.SeedsAgain) }
	if _, err := f.Closest(t.Context(), w.at("/a/x"), "sector"); blocktree.KindOf(err) != blocktree.Unauthenticated || f.Stats().Forged == 0 {
		t.Error("the right root principal, and another's machines:", err)
	}
	records(w.key.Principal(), good)
	w.now = func() time.Time { return time.Now().Add(2 * blocktree.SeedsAgain) }
	if got, err := f.Closest(t.Context(), w.at("/a/x"), "sector"); err != nil || got[0].Path != w.at("/a/node0") {
		t.Error("the right one:", err)
	}
}

// A real server: what it takes to set a domain up is what docs/ROUTES.md says.
func TestDnsmasq(t *testing.T) {
	program, err := exec.LookPath("dnsmasq")
	if err != nil {
		t.Skip("needs dnsmasq")
	}
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := free.LocalAddr().String()
	_, port, _ := net.SplitHostPort(server)
	_ = free.Close()
	w := newWorld(t, 2, "", "/a")
	cmd := exec.Command(program, "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-daemon", "--pid-file=", "--user="+os.Getenv("USER"),
		"--port="+port, "--listen-address=127.0.0.1", "--bind-interfaces",
		"--txt-record=_blocktree._udp.example.test,root="+w.key.Principal().String(),
		"--srv-host=_blocktree._udp.example.test,node0.example.test,7000,0", "--srv-host=_blocktree._udp.example.test,node1.example.test,7000,1",
		"--host-record=node0.example.test,10.0.0.1", "--host-record=node1.example.test,10.0.0.2")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()
	d := route.DNS{Root: w.key.Principal(), Name: name, Server: server}
	f := w.finder(func(c *route.FinderConfig) { c.Seeds = d })
	for late := time.Duration(0); ; late += blocktree.SeedsAgain {
		w.now = func() time.Time { return time.Now().Add(late) }
		got, err := f.Closest(t.Context(), w.at("/a/disk0"), "sector")
		if err == nil {
			if got[0].Path != w.at("/a/node0") {
				t.Error(got)
			}
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("dnsmasq: %v: %s", err, said.String())
		case <-t.Context().Done():
			t.Fatal("it never answered")
		case <-time.After(10 * time.Millisecond): // it has not begun yet
		}
	}
	if asked := w.takeAsked(); asked[0] != "/node0 closest /a/disk0" {
		t.Errorf("asked %q: not in the order of priorities", asked)
	}
}
