package sim

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"blocktree/cluster/stripe"
)

// kill is a seed whose world breaks when a rule is dropped, and does not when it is kept.
type kill struct {
	mutant string
	seed   uint64
	how    string // the invariant that is violated, the start of Result.Failure
}

// kills has one entry for each mutant; FIND=1 go test ./internal/sim -run FindKills -v prints it anew.
func kills() []kill {
	return []kill{
		{"ackatk", 2, "I1 acknowledged is durable"},
		{"nofence", 3, "I1 acknowledged is durable"},
		{"nocatchup", 5723, "not linearizable"},
		{"noreset", 3227, "void version read"},
		{"taketurned", 85164, "I4 acknowledged is not voided"},
		{"noviewcheck", 1351, "not linearizable"},
		{"noviewack", 1, "I6 view known before acknowledged"},
		{"readprepared", 4, "I4 acknowledged is not voided"},
		{"readcommitted", 2, "not linearizable"},
		{"noresync", 2, "I5 in sync has all"},
		{"noexclude", 753, "I5 in sync has all"},
		{"rollfwdany", 7, "I5 in sync has all"},
		{"droprepared", 3, "I4 acknowledged is not voided"},
		{"volatilefence", 6, "rule 5 no reads while recovering"},
		{"lazyfsync", 3, "I1 acknowledged is durable"},
		{"q-too-small", 2, "rule 6 quorum"},
		{"readstaleview", 1351, "not linearizable"},
		{"nominwrite", 5, "I1 acknowledged by MinWrite"},
		{"watermarkpasses", 26, "I1 acknowledged is durable"},
		{"seconddigest", 3, "undecodable"},
		{"noincarnation", 125, "not linearizable"},
		{"abortloose", 66263, "I4 acknowledged is not voided"},
		{"joinnowait", 2, "I5 in sync has all"},
		{"joinforgets", 2, "I5 in sync has all"},
		{"promoteearly", 2, "I5 in sync has all"},
		{"promoteblind", 80, "not linearizable"},
		{"noleasecheck", 71, "rule 6 lease"},
		{"torntombstone", 2, "I1 acknowledged is durable"},
		{"dropnospace", 131, "rule 9 no removal for want of space"},
		{"norepairwait", 48, "void version read"},
		{"readvolatile", 1059, "I4 acknowledged is not voided"},
		{"fewerthank", 1, "rule 6 quorum"},
		{"joinkeepspending", 849, "I5 in sync has all"},
		{"digestblind", 46, "I5 in sync has all"},
		{"matchshard", 60, "undecodable"},
		{"promotediffering", 2, "I5 in sync has all"},
		{"keepforeign", 8191, "I2 committed"},
		{"skipunwhole", 2, "I5 in sync has all"},
		{"listnomark", 26, "I5 in sync has all"},
		{"sentanyway", 2, "I5 in sync has all"},
		{"forgetbase", 2619, "I5 in sync has all"},
		{"unsynced-answers", 2, "I1 acknowledged is durable"},
		{"control-forgotten", 24, "I5 in sync has all"},
		{"incarnation-kept", 58, "I1 acknowledged is durable"},
		{"commits-by-order", 338, "I5 in sync has all"},
		{"replay-forgets-index", 8, "I5 in sync has all"},
		{"lease-overrun", 4952, "rule 6 lease"},
		{"confirm-blind", 25, "rule 6 lease"},
		{"layout-cached", 755, "not linearizable"},
		{"checkpoint-early", 534, "I1 acknowledged is durable"},
		{"cas-dropped", 124, "one joins at a time"},
		{"wholeanywhere", 103, "undecodable"},
		{"replaced-counts", 64, "I5 in sync has all"},
		{"placed-counts", 11, "I5 in sync has all"},
		{"movedearly", 2, "I16 a move keeps who counts"},
		{"moved-to-draining", 5, "I19 who drains"},
		{"placed-over-sync", 86, "I7 at least k in sync"},
		{"witnesssome", 3739, "I14 witnesses"},
		{"zeropending", 20, "zeros are zeros"},
		{"writebehind", 51, "Z3 no write behind the end"},
		{"cut-untrimmed", 51, "Z2 what is cut is zeros"},
		{"cut-open", 95, "Z2 what is cut is zeros"},
		{"cut-unfenced", 1646, "Z2 what is cut is zeros"},
		{"born-kept", 139, "rule 5 no reads while recovering"},
		{"firstlater", 31, "I5 in sync has all"},
		{"firstlate", 91, "I4 void is not acknowledged"},
	}
}

// earlyKills are those of rules about reads that begin under the layout heard last (0078).
func earlyKills() []kill {
	return []kill{
		{"told-unheard", 6965, "not linearizable"},
		{"heard-before", 94, "rule 6 newest layout"},
		{"heard-another", 3149, "not linearizable"},
		{"within-any", 16, "rule 6 newest layout"},
	}
}

// flushKills are those of durability flush.
func flushKills() []kill {
	return []kill{
		{"syncnothing", 2, "F7 a sync is one"},
		{"synclate", 2, "F2 watermarks are stable"},
		{"markvolatile", 2, "F2 watermarks are stable"},
		{"flushonly", 2, "F1 flushed is durable"},
		{"flushsome", 2, "F1 flushed is durable"},
		{"toldunwritten", 2, "I1 acknowledged is durable"},
		{"copyvolatile", 56, "F3 indexed is stable"},
		{"promotevolatile", 4534, "F1 flushed is durable"},
		{"stablenojoin", 13, "F2 watermarks are stable"},
		{"flushnojoin", 337, "F1 flushed is durable"},
		{"movesyncs", 2933, "F2 watermarks are stable"},
		{"installwritten", 3, "F1 flushed is durable"},
		{"repairwritten", 1107, "F3 indexed is stable"},
		{"abortwritten", 2803, "F3 indexed is stable"},
		{"volatile-kept", 2, "F2 watermarks are stable"},
		{"loss-unsaid", 6, "I4 acknowledged is not voided"},
		{"loss-unheard", 2, "F6 nothing of after a loss"},
		{"back-any-disk", 666, "F5 one state after a loss"},
		{"cut-unflushed", 84, "Z2 what is cut is zeros"},
		{"readafterloss", 73, "no reads before a loss is decided"},
		{"releaseearly", 2, "I20 released once"},
	}
}

// liarKills are those of rules about members that lie.
func liarKills() []kill {
	return []kill{
		{"believeany", 14, "read"},
		{"denyany", 7, "L2 the honest are not named"},
		{"copyzeros", 7438, "L2 the honest are not named"},
		{"fetchfew", 82, "F8 readable"},
		{"believecommitted", 242, "F8 readable"},
		{"denyone", 11459, "not linearizable"},
		{"trustfloor", 568, "rule 5 what all hold is kept"},
		{"trustfence", 14035, "I4 acknowledged is not voided"},
		{"listany", 604, "I5 in sync has all"},
		{"fewaccuse", 5007944, "L2 the honest are not named"},
		{"mindrefusals", 6632, "no convergence"},
		{"toldonce", 7004643, "no convergence"},
	}
}

// scripted are mutants that take a late copy of a message and a crash at one moment of a join of a damaged store, or two
// take-overs that each lose a member: too rare for a sweep. The tests of cluster/stripe that are named show them.
func scripted() map[string]string {
	return map[string]string{"forgettwice": "TestForgetOnce", "listvolatile": "TestListIsDurable", "skipdecided": "TestUnbroken",
		"repairout": "TestRepairOut", "skippaused": "TestPausedIsCompared", "resetagain": "TestPausedRefusesStill",
		"witnessearly": "TestWitnesses", "readleaving": "TestReadOfThoseThatLeave", "moveanswers": "TestHeirAnswersForItself",
		"moveleaving": "TestReadOfWhoMadeRoom", "compareone": "TestJoinerGetsWhatOneHas",
		"holdon": "TestLossyEndsTheHolder", "removeblind": "TestMarkedStayWhereTooFewAnswer",
		"mendvolatile": "TestMendIsStable", "believeclaim": "TestLiarMutants", "askagain": "TestReadAsksWhoHasNotFailed", "awaitrefusal": "TestFewBesideARefusal", "fetchrefused": "TestFewDeniedBesideARefusal", "newerexcuses": "TestNewerInFlightIsNoExcuse", "decideunsure": "TestTakeOverOfALaterView"}
}

// worldsOf are the worlds in which a mutant is met: with files of durability flush (0014), or with liars (0029).
func worldsOf(mutant string) worlds {
	of := func(note string) bool {
		return slices.ContainsFunc(append(stripe.Mutants(), Mutants()...), func(m string) bool {
			return strings.HasPrefix(m, mutant+":") && strings.HasSuffix(m, note)
		})
	}
	return worlds{flush: of("(0014)") || of("(0014, 0029)"), liars: of("0029)")}
}

// every lists all mutants, of the machines and of the world, that worlds kill.
func every() []string {
	var out []string
	for _, m := range append(stripe.Mutants(), Mutants()...) {
		if name, _, _ := strings.Cut(m, ":"); scripted()[name] == "" {
			out = append(out, name)
		}
	}
	return out
}

// TestMutantsDie shows for every rule that a world notices when it is dropped.
func TestMutantsDie(t *testing.T) {
	have := map[string]bool{}
	for _, k := range slices.Concat(kills(), earlyKills(), flushKills(), liarKills()) {
		have[k.mutant] = true
		t.Run(k.mutant, func(t *testing.T) {
			sound := optionsOf(t, k.seed, worldsOf(k.mutant), "")
			if r := Run(sound); r.Failure != "" {
				t.Errorf("without the mutant: %s\n\t%s", r.Failure, reproduce(t, sound))
			}
			if r := Run(optionsOf(t, k.seed, worldsOf(k.mutant), k.mutant)); strings.HasPrefix(r.Failure, k.how+":") {
				return
			}
			// The machines have changed since, and so has what happens under this seed.
			moved, how := searchKill(t, k.mutant, k.seed+1, searchMost)
			if how == "" {
				t.Fatalf("seed %d no longer kills it, nor do the %d after it; find another: FIND=%s go test ./internal/sim -run FindKills -v", k.seed, searchMost, k.mutant)
			}
			t.Logf("seed %d no longer kills it, seed %d does: {%q, %d, %q},", k.seed, moved.Seed, k.mutant, moved.Seed, how)
		})
	}
	for _, m := range every() {
		if !have[m] {
			t.Errorf("no seed kills mutant %s: FIND=%s go test ./internal/sim -run FindKills -v", m, m)
		}
	}
}

// searchMost is how many worlds TestMutantsDie tries when its seed no longer serves.
const searchMost = 3000

// searchKill lives worlds under a mutant until one breaks in another way than by standing still, which a sound world
// could do as well. how is the invariant, "" if none broke.
func searchKill(t *testing.T, mutant string, first, n uint64) (o Options, how string) {
	sweep(t, worldsOf(mutant), mutant, first, n, func(x Options, r Result) bool {
		name, _, _ := strings.Cut(r.Failure, ":")
		if name != "" && name != "no convergence" {
			o, how = x, name
		}
		return how == ""
	})
	return o, how
}

// TestFindKills searches seeds that kill the mutant FIND (1: every one) and prints lines for kills. Its worlds are
// bounded by SEEDS.
func TestFindKills(t *testing.T) {
	find := os.Getenv("FIND")
	if find == "" {
		return
	}
	for _, m := range every() {
		if find != "1" && find != m {
			continue
		}
		start := time.Now()
		n := fromEnv(t, "SEEDS", 50000)
		if o, how := searchKill(t, m, 1, n); how != "" {
			fmt.Printf("\t\t{%q, %d, %q},\n", m, o.Seed, how)
		} else {
			t.Errorf("%s survived %d worlds in %v", m, n, time.Since(start))
		}
	}
}
