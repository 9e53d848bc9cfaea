package bareexchange

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMain lets the test's own program be an echo process.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-echo" {
		if err := Echo(context.Background(), os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestEveryRow runs everything for a moment and looks at the rows.
func TestEveryRow(t *testing.T) {
	rows := map[string]int{}
	err := Run(t.Context(), []string{os.Args[0], "-echo"}, Options{Each: 5 * time.Millisecond, Carriers: []string{"tcp", "quic"},
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
	err := Run(t.Context(), []string{os.Args[0], "-echo"}, Options{Each: time.Millisecond, Carriers: []string{"tcp"}, Overs: []string{"x"},
		Shapes: Shapes()}, func(Row) { t.Error("a row of something unknown") })
	if err == nil {
		t.Fatal("something unknown was measured")
	}
}
