package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"blocktree"
	"blocktree/cluster/meta"
)

// TestEveryChangeOfRightsIsTold: a line for each op that changes who may or can read what, and for each refusal, in words; nothing of an access record is in it.
func TestEveryChangeOfRightsIsTold(t *testing.T) {
	secret := "wrappedkeys"
	p := blocktree.PrincipalOf([]byte("thief"))
	root := blocktree.RootPath(blocktree.PrincipalOf([]byte("root")))
	told := func(op meta.Op, kind blocktree.Kind) string {
		var out bytes.Buffer
		a := &audit{clock: &movedClock{}, log: slog.New(slog.NewTextHandler(&out, nil))}
		a.told(asker{}, false, op, &meta.Result{Kind: kind})
		if strings.Contains(out.String(), secret) || strings.Contains(out.String(), "meta.") {
			t.Errorf("%T: %s", op, out.String())
		}
		return out.String()
	}
	revoke := meta.RevokePrincipal{Revocation: meta.Revocation{Principal: p, Scope: root.Join("rack1"), Until: 1}}
	for _, op := range []meta.Op{meta.PutGrant{Grant: meta.Grant{Subject: meta.Subject{Path: root}, Rights: meta.RightRead}}, meta.RemoveGrant{Subject: meta.Subject{Path: root}}, revoke,
		meta.SetAccess{Access: []byte(secret)}, meta.SetAttr{Mask: meta.AttrMode}, meta.SetAttr{Mask: meta.AttrOwner}, meta.SetAttr{Mask: meta.AttrAccess, Access: []byte(secret)},
		meta.Rename{From: root.Join("a"), To: root.Join("d").Join("a")}, meta.Rename{From: root.Join("a"), To: root.Join("b"), Records: []meta.NextRecord{{Access: []byte(secret)}}}} {
		if line := told(op, blocktree.Other); !strings.Contains(line, "rights changed") {
			t.Errorf("%T: no line: %q", op, line)
		}
	}
	if line := told(revoke, blocktree.Other); !strings.Contains(line, p.String()) || !strings.Contains(line, "/rack1") {
		t.Errorf("whom and where: %q", line)
	}
	if line := told(meta.Rename{From: root.Join("a"), To: root.Join("b")}, blocktree.Other); line != "" {
		t.Errorf("a rename that changes no right: %q", line)
	}
	for _, op := range []meta.Op{meta.Rename{Records: []meta.NextRecord{{Access: []byte(secret)}}}, meta.Found{Dir: root}, meta.MakeDir{Path: root}, meta.CreateFile{Path: root}, meta.CreateFlushFile{CreateFile: meta.CreateFile{Path: root}}, meta.Remove{Path: root},
		meta.PutRuntime{}, meta.RemoveRuntime{}, meta.StartNode{}, meta.StartVolatile{}, meta.LeaveViews{}, meta.OpenSession{}, meta.RenewSession{}, meta.CloseSession{},
		meta.Acquire{}, meta.Release{}, meta.ClaimLease{}, meta.ChangeView{}, meta.ReplaceHost{}, meta.RetireHost{}, meta.DrainHost{}, meta.Resize{}, meta.ResizeTree{}, meta.AskShrink{}, meta.AskShrinkTree{}, meta.SetEnd{}, revoke,
		meta.Touch{}, meta.ReleaseAt{}, meta.SetTimes{}, meta.Symlink{Path: root, Target: secret}, meta.SetXattr{Value: []byte(secret)}, meta.PutXattrs{}, meta.CreateHeld{}, meta.ReleaseEnd{}, meta.MakeDirKept{}, meta.Leave{}, meta.MakeSpares{}, meta.Want{}, meta.NameFile{CreateFile: meta.CreateFile{Access: []byte(secret)}},
		meta.SetAccess{Access: []byte(secret)}, meta.NoteAccess{}, meta.SetAttr{Mask: meta.AttrAccess, Access: []byte(secret)}} {
		for _, kind := range []blocktree.Kind{blocktree.Permission, blocktree.Unauthenticated} {
			if line := told(op, kind); !strings.Contains(line, "refused") {
				t.Errorf("%T, %v: no line: %q", op, kind, line)
			}
		}
	}
}
