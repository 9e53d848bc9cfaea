package dispatch

import (
	"testing"

	"blocktree/internal/bttp"
)

// BenchmarkDispatch is a message by a route that is in memory, beside the connection's own call: over loopback, and without a network, as finding and holding the link is all that comes on top.
func BenchmarkDispatch(b *testing.B) {
	for _, by := range []string{"call", "dispatch", "overhead"} {
		b.Run(by, func(b *testing.B) {
			bed := newBedOn(b, func(*bed) bttp.Network { return nil })
			p := bed.postman("p")
			bed.routes.says(bed.path(""), p)
			a, m := bed.rootward(""), Message{Code: codeDo, Body: []byte("dear")}
			conn, err := bed.from.Dial(b.Context(), p.Runtime)
			if err != nil {
				b.Fatal(err)
			}
			answer, err := bed.d.Dispatch(b.Context(), a, m)
			if err != nil {
				b.Fatal(err)
			}
			answer.Release()
			b.ReportAllocs()
			for b.Loop() {
				switch by {
				case "call":
					reply, err := conn.CallWait(b.Context(), m.Code, m.Header, m.Body)
					if err != nil {
						b.Fatal(err)
					}
					reply.Release()
				case "dispatch":
					answer, err := bed.d.Dispatch(b.Context(), a, m)
					if err != nil {
						b.Fatal(err)
					}
					answer.Release()
				default:
					f, _ := bed.routes.Known(a)
					bed.d.letGo(bed.d.remembered(a.Service, &f.Runtimes[0]))
				}
			}
		})
	}
}
