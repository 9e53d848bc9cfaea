package bareexchange

import (
	"flag"
	"os"
	"testing"
	"time"
)

// echoCommand runs this test's own program as an echo process.
var echoCommand = []string{os.Args[0], "-test.run=^TestEchoProcess$"}

// TestEchoProcess is the echo process when it was given a directory, and nothing else.
func TestEchoProcess(t *testing.T) {
	if flag.NArg() == 0 {
		return
	}
	if err := Echo(t.Context(), flag.Arg(0), os.Stdin, os.Stdout); err != nil {
		t.Fatal(err)
	}
}

// TestEveryRow runs everything for a moment and looks at the rows.
func TestEveryRow(t *testing.T) {
	rows := map[string]int{}
	err := Run(t.Context(), echoCommand, Options{Each: 5 * time.Millisecond, Carriers: []string{"tcp", "quic"},
		Overs: []string{Bare, Batched, BTTP}, Shapes: Shapes()}, func(r Row) {
		rows[r.Over+" "+r.Carrier]++
		if r.PerSecond <= 0 || r.MiBPerSecond <= 0 || r.P50 <= 0 || r.P99 < r.P50 {
			t.Errorf("%+v", r)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, over := range []string{Bare, Batched, BTTP} {
		for _, carrier := range []string{"tcp", "quic"} {
			if n := rows[over+" "+carrier]; n != 8 {
				t.Errorf("%d rows of %s over %s", n, over, carrier)
			}
		}
	}
}

func TestUnknownIsRefused(t *testing.T) {
	err := Run(t.Context(), echoCommand, Options{Each: time.Millisecond, Carriers: []string{"tcp"}, Overs: []string{"x"},
		Shapes: Shapes()}, func(Row) { t.Error("a row of something unknown") })
	if err == nil {
		t.Fatal("something unknown was measured")
	}
}
