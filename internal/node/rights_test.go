package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"blocktree"
	"blocktree/cluster"
	"blocktree/cluster/meta"
	"blocktree/cluster/stripe"
	"blocktree/crypto/cred"
	"blocktree/crypto/keys"
	"blocktree/internal/bttp"
	"blocktree/internal/file"
	"blocktree/internal/testenv"
)

// clusterCases is who may do what by asking the cluster itself: s stat, r read, w open for writing, write and flush, z grow, m chmod, g grant; of a directory l list, c create, x remove, m and g
// as well. The first line is case 1, a sector host that has another user id than 0; the others are case 2, runtimes that store nothing. Directories belong to 1000:100, /shut with mode 0700, its files are
// 0644, 0600 and 0600.
const clusterCases = `
who             /pub    /pub/all  /pub/mine  /pub/team  /shut   /shut/all  /shut/named  /shut/group
sector host     sl      sr        s          s          s       sr         -            -
user 0          slcxmg  srwzmg    srwzmg     srwzmg     slcxmg  srwzmg     srwzmg       srwzmg
owner           slcxmg  srwzmg    srwzmg     srwzmg     slcxmg  srwzmg     srwzmg       srwzmg
group           sl      sr        s          srwz       s       sr         -            -
other           sl      sr        s          s          s       sr         -            -
granted read    sl      sr        s          s          s       sr         sr           -
granted to hold sl      sr        s          s          s       sr         srwz         -
granted admin   sl      sr        s          s          s       sr         smg          -
granted by path sl      sr        s          s          s       sr         -            srwz
granted above   sl      sr        s          s          sl      sr         sr           sr
grant has ended sl      sr        s          s          s       sr         -            -
revoked         sl      sr        s          s          s       sr         -            -
`

// casesWorld makes what the table is about.
func casesWorld(ctx context.Context, t *testing.T, d *testenv.Domain, admin *cluster.Client) {
	t.Helper()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	uid, gid := uint32(1000), uint32(100)
	own := func(path string, mode uint32) {
		t.Helper()
		must(admin.SetMode(ctx, d.Path(path), mode))
		must(admin.SetOwner(ctx, d.Path(path), &uid, &gid))
	}
	for path, mode := range map[string]uint32{"/pub": 0o755, "/shut": 0o700} {
		must(nil, admin.MakeDir(ctx, d.Path(path), mode, false))
		own(path, mode)
	}
	for path, mode := range map[string]uint32{"/pub/all": 0o644, "/pub/mine": 0o600, "/pub/team": 0o660, "/shut/all": 0o644, "/shut/named": 0o600, "/shut/group": 0o600} {
		d.Create(admin, path, 1<<20, blocktree.Code{Data: 2, Parity: 1})
		own(path, mode)
	}
}

// tryCase does everything with a path and returns the letters of what was not refused.
func tryCase(ctx context.Context, t *testing.T, d *testenv.Domain, c, admin *cluster.Client, who, short string) string {
	t.Helper()
	path, out := d.Path(short), new(strings.Builder)
	say := func(letter, what string, err error) {
		t.Helper()
		switch {
		case err == nil:
			out.WriteString(letter)
		case blocktree.KindOf(err) != blocktree.Permission:
			t.Errorf("%s %s %s: %v", who, what, short, err)
		case blocktree.HintOf(err) == "":
			t.Errorf("%s %s %s: %v has no hint", who, what, short, err)
		}
	}
	inode, err := c.Stat(ctx, path)
	say("s", "stat", err)
	now, err := admin.Stat(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	if now.Kind == meta.KindDir {
		_, err = c.List(ctx, path)
		say("l", "list", err)
		_, err = c.CreateFile(ctx, meta.CreateFile{Path: path.Join("new"), SizeBytes: 4096, SectorBytes: 4096, Code: blocktree.Code{Data: 1}}, stripe.DurabilityAck)
		say("c", "create", err)
		_ = admin.Remove(ctx, path.Join("new")) // which may not be there
		if err := admin.MakeDir(ctx, path.Join("old"), 0o777, false); err != nil {
			t.Fatal(err)
		}
		say("x", "remove", c.Remove(ctx, path.Join("old")))
		_ = admin.Remove(ctx, path.Join("old"))
	} else {
		say("r", "read", readCase(ctx, d, c, path))
		say("w", "write", writeCase(ctx, d, c, path))
		_, _, err = c.Resize(ctx, path, cluster.ResizeOptions{Bytes: func(n uint64) (uint64, error) { return n + 4096, nil }})
		say("z", "grow", err)
	}
	_, err = c.SetMode(ctx, path, now.Mode)
	say("m", "chmod", err)
	_, err = c.Grant(ctx, path, meta.Grant{Subject: meta.Subject{Path: d.Path("/nobody")}, Rights: meta.RightLease})
	say("g", "grant", err)
	if inode != nil && inode.ID != now.ID {
		t.Errorf("%s: %s is another file", who, short)
	}
	return out.String()
}

func readCase(ctx context.Context, d *testenv.Domain, c *cluster.Client, path blocktree.Path) error {
	f, err := file.Open(ctx, c, path, file.OpenOptions{ReadOnly: true, Reader: d.Reader})
	if err != nil {
		return err
	}
	defer f.Close()
	return f.ReadSectors(ctx, 0, make([]byte, 4096))
}

func writeCase(ctx context.Context, d *testenv.Domain, c *cluster.Client, path blocktree.Path) error {
	f, err := file.Open(ctx, c, path, file.OpenOptions{Reader: d.Reader})
	if err != nil {
		return err
	}
	if err = f.WriteSectors(ctx, 1, make([]byte, 4096)); err == nil {
		err = f.Flush(ctx)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// grantEnded makes a grant that has ended by then. It must not have ended when it is made, however busy the machine is.
func grantEnded(ctx context.Context, t *testing.T, admin *cluster.Client, on blocktree.Path, g meta.Grant) {
	t.Helper()
	for life := 200 * time.Millisecond; ; life *= 2 {
		ends := time.Now().Add(life)
		g.Until = ends.UnixNano()
		_, err := admin.Grant(ctx, on, g)
		if blocktree.KindOf(err) == blocktree.Invalid && life < time.Minute {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(ends) + time.Millisecond)
		return
	}
}

// TestClusterCases runs principals and operations of cases 1 and 2 against a live cluster whose nodes have not user id 0. Every caller has a key for every file, so that nothing
// but rights decides.
func TestClusterCases(t *testing.T) {
	t.Parallel()
	d := testenv.NewOf(t, 3, testenv.User{UID: 900, GID: 900})
	d.StartAll()
	ctx := patience(t)
	admin := d.Client()
	casesWorld(ctx, t, d, admin)
	grant := func(on string, g meta.Grant) {
		t.Helper()
		if _, err := admin.Grant(ctx, d.Path(on), g); err != nil {
			t.Fatal(err)
		}
	}
	as := func(uid, gid uint32, groups ...uint32) *cluster.Client {
		c, _ := d.ClientAs(testenv.User{UID: uid, GID: gid, Groups: groups})
		return c
	}
	granted := func(on string, rights meta.Rights) *cluster.Client {
		c, path := d.ClientAs(testenv.User{UID: 1003, GID: 7})
		grant(on, meta.Grant{Subject: meta.Subject{Path: path}, Rights: rights})
		return c
	}
	revoked, revokedPath := d.ClientAs(testenv.User{UID: 1003, GID: 7})
	grant("/shut/named", meta.Grant{Subject: meta.Subject{Path: revokedPath}, Rights: meta.RightRead})
	if _, err := admin.Revoke(ctx, d.Path("/shut/named"), meta.Subject{Path: revokedPath}); err != nil {
		t.Fatal(err)
	}
	ended, endedPath := d.ClientAs(testenv.User{UID: 1003, GID: 7})
	grantEnded(ctx, t, admin, d.Path("/shut/named"), meta.Grant{Subject: meta.Subject{Path: endedPath}, Rights: meta.RightsHold})
	rows := []struct {
		who    string
		client *cluster.Client
	}{{"sector host", d.ClientOfNode(0)}, {"user 0", admin}, {"owner", as(1000, 7)}, {"group", as(1001, 7, 100)}, {"other", as(1002, 7)},
		{"granted read", granted("/shut/named", meta.RightRead)}, {"granted to hold", granted("/shut/named", meta.RightsHold)}, {"granted admin", granted("/shut/named", meta.RightAdmin)},
		{"granted by path", granted("/shut/group", meta.RightsHold)}, {"granted above", granted("/shut", meta.RightRead|meta.RightList)}, {"grant has ended", ended}, {"revoked", revoked}}
	lines := strings.Split(strings.TrimSpace(clusterCases), "\n")
	paths := strings.Fields(lines[0])[1:]
	got := []string{lines[0]}
	for _, row := range rows {
		line := fmt.Sprintf("%-16s", row.who)
		for i, path := range paths {
			cell := tryCase(ctx, t, d, row.client, admin, row.who, path)
			if cell == "" {
				cell = "-"
			}
			line += fmt.Sprintf("%-*s", []int{8, 10, 11, 11, 8, 11, 13, 0}[i], cell)
		}
		got = append(got, line)
	}
	t.Logf("who may do what, as it was tried:\n%s", strings.Join(got, "\n"))
	for i := range got {
		if i >= len(lines) || strings.TrimRight(got[i], " ") != strings.TrimRight(lines[i], " ") {
			t.Errorf("got  %s\nwant %s", got[i], lines[min(i, len(lines)-1)])
		}
	}
}

// codes of messages between runtimes, and what TestOldThingsDoNotHelp sends by them.
const (
	codeStripe  = 1
	codePropose = 3
)

// stranger speaks to one node without any of the client's manners: it goes on after a refusal.
type stranger struct {
	t    *testing.T
	ctx  context.Context
	conn *bttp.Conn
}

func dialStranger(ctx context.Context, t *testing.T, d *testenv.Domain, key cred.Key, chain cred.Credentials) *stranger {
	t.Helper()
	e, err := bttp.New(bttp.Config{Key: key, Credentials: chain, Root: d.Root, Log: d.Logger("stranger")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	conn, err := e.Dial(ctx, d.Members[0])
	if err != nil {
		t.Fatal(err)
	}
	return &stranger{t, ctx, conn}
}

func (s *stranger) propose(op meta.Op) meta.Result {
	s.t.Helper()
	body, err := meta.EncodeCommand(nil, meta.Command{ID: meta.NewCommandID(), Op: op})
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := s.conn.CallWait(s.ctx, codePropose, nil, body)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Release()
	out, err := meta.DecodeResult(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// send sends a message to the node's member, and returns the kind of the refusal, or of the member's answer.
func (s *stranger) send(m stripe.Message) blocktree.Kind {
	s.t.Helper()
	header, body := stripe.EncodeMessage(&m)
	r, err := s.conn.CallWait(s.ctx, codeStripe, header, body...)
	if err != nil {
		return blocktree.KindOf(err)
	}
	defer r.Release()
	a, err := stripe.DecodeMessage(r.Header, r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return a.Err
}

// TestOldThingsDoNotHelp: once a right is revoked, no node gives or takes a sector for it, on the connection that was there before nor on a new one, under the lease and in the session that were there
// before; the session's renewals confirm the lease no more, and the lease ends.
func TestOldThingsDoNotHelp(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 1)
	d.StartAll()
	ctx := patience(t)
	admin := d.Client()
	d.Create(admin, "/f", 1<<20, blocktree.Code{Data: 1})
	inode, err := admin.Stat(ctx, d.Path("/f"))
	if err != nil {
		t.Fatal(err)
	}
	path := d.Path("/stranger")
	key, chain := d.NewIdentity(path, testenv.User{UID: 1003, GID: 7})
	dial := func() *stranger { return dialStranger(ctx, t, d, key, chain) }
	old, subject := dial(), meta.Subject{Principal: key.Principal()}
	if _, err := admin.Grant(ctx, d.Path("/f"), meta.Grant{Subject: subject, Rights: meta.RightsHold}); err != nil {
		t.Fatal(err)
	}
	session := meta.NewSessionID()
	if r := old.propose(meta.OpenSession{Session: session, Principal: key.Principal(), Path: path}); r.Kind != 0 {
		t.Fatal(r.Err("session"))
	}
	r := old.propose(meta.Acquire{Session: session, File: inode.ID})
	if r.Kind != 0 {
		t.Fatal(r.Err("acquire"))
	}
	l := r.Layout
	message := func(kind stripe.MessageKind) stripe.Message {
		return stripe.Message{Kind: kind, ID: 1, Node: 1, File: inode.ID, Epoch: l.Epoch, View: l.View(0).ID, Seq: l.Seq, Incarnation: l.Incarnations[1], Count: 1}
	}
	kinds := []stripe.MessageKind{stripe.KindRead, stripe.KindLearn, stripe.KindFence, stripe.KindAbort, stripe.KindSync, stripe.KindDigest, stripe.KindList}
	d.Await("the node hears of the lease", func() bool { return old.send(message(stripe.KindRead)) != blocktree.Unavailable })
	for _, kind := range kinds {
		if got := old.send(message(kind)); got == blocktree.Permission || got == blocktree.Unavailable {
			t.Errorf("kind %d with the right: %v", kind, got)
		}
	}
	if _, err := admin.Revoke(ctx, d.Path("/f"), subject); err != nil {
		t.Fatal(err)
	}
	for what, s := range map[string]*stranger{"old connection": old, "new connection": dial()} {
		for _, kind := range kinds {
			if got := s.send(message(kind)); got != blocktree.Permission {
				t.Errorf("%s, kind %d: %v", what, kind, got)
			}
		}
		if r := s.propose(meta.Acquire{Session: session, File: inode.ID}); r.Kind != blocktree.Permission {
			t.Errorf("%s: acquires again: %v", what, r.Kind)
		}
		if r := s.propose(meta.ChangeView{Change: stripe.Change{File: inode.ID, Epoch: l.Epoch, Seq: l.Seq, Kind: stripe.ChangeRemove, Nodes: []blocktree.NodeID{1}}}); r.Kind != blocktree.Permission {
			t.Errorf("%s: changes views: %v", what, r.Kind)
		}
		if r := s.propose(meta.RenewSession{Session: session}); r.Kind == 0 && (!r.Claimed || len(r.Firm) > 0) {
			t.Errorf("%s: the lease is confirmed", what)
		}
	}
	d.Await("the end of the lease", func() bool {
		old.propose(meta.RenewSession{Session: session}) // its session lives
		f, err := file.Open(ctx, admin, d.Path("/f"), file.OpenOptions{Reader: d.Reader})
		if err == nil {
			err = f.Close()
		}
		return err == nil
	})
}

// TestKeyOfAHostElsewhere: the key of a sector host with credentials for another path speaks for nobody, user id 0 least of all.
func TestKeyOfAHostElsewhere(t *testing.T) {
	t.Parallel()
	d := testenv.New(t, 3)
	d.StartAll()
	d.Await("a cluster that is founded and whole", d.AllStarted)
	c, err := d.Impostor(1, "/rack2/x")
	if err != nil {
		t.Fatal(err)
	}
	ctx := cluster.OnBehalf(patience(t), d.Client().Identity())
	if err := c.MakeDir(ctx, d.Path("/stolen"), 0o755, false); err == nil || !strings.Contains(err.Error(), "the key is that of the sector host") {
		t.Errorf("it spoke for user id 0: %v", err)
	}
	if _, err := d.Client().Stat(t.Context(), d.Path("/stolen")); blocktree.KindOf(err) != blocktree.NotFound {
		t.Errorf("it made a directory: %v", err)
	}
}

// TestRightsOnATreeFile: on nodes without user id 0, and for callers without, a grant on a tree file is one on its companion, on the data path too: who may read reads, who may hold
// writes and has the tree anchored, and whoever has no right any more, or never had one, does neither.
func TestRightsOnATreeFile(t *testing.T) {
	t.Parallel()
	d := testenv.NewOf(t, 3, testenv.User{UID: 900, GID: 900})
	d.StartAll()
	ctx := patience(t)
	admin, path := d.Client(), d.Path("/vault")
	if err := file.Create(ctx, admin, path, file.CreateOptions{SizeBytes: 1 << 20, Readers: []keys.PublicKey{d.Reader.Public()}, Tree: true}); err != nil {
		t.Fatal(err)
	}
	granted := func(rights meta.Rights) (*cluster.Client, meta.Subject) {
		c, at := d.ClientAs(testenv.User{UID: 1003, GID: 7})
		if _, err := admin.Grant(ctx, path, meta.Grant{Subject: meta.Subject{Path: at}, Rights: rights}); err != nil {
			t.Fatal(err)
		}
		return c, meta.Subject{Path: at}
	}
	holder, subject := granted(meta.RightsHold)
	reader, _ := granted(meta.RightRead)
	stranger, _ := d.ClientAs(testenv.User{UID: 1002, GID: 7})
	try := func(who string, c *cluster.Client, read, write blocktree.Kind) {
		t.Helper()
		if err := writeCase(ctx, d, c, path); blocktree.KindOf(err) != write || write == 0 && err != nil {
			t.Errorf("%s writes: %v", who, err)
		}
		if err := readCase(ctx, d, c, path); blocktree.KindOf(err) != read || read == 0 && err != nil {
			t.Errorf("%s reads: %v", who, err)
		}
	}
	try("who may hold", holder, 0, 0)
	if i, err := admin.Stat(ctx, path); err != nil || i.AnchorNumber == 0 {
		t.Errorf("nothing is anchored: %v", err)
	}
	try("who may read", reader, 0, blocktree.Permission)
	try("a stranger", stranger, blocktree.Permission, blocktree.Permission)
	if _, err := admin.Revoke(ctx, path, subject); err != nil {
		t.Fatal(err)
	}
	try("who may no more", holder, blocktree.Permission, blocktree.Permission)
}
