// Command liar is a runtime with good credentials that answers queries with lies (serve), asks queries without pause (flood), asks honestly and says how long that takes (ask), or looks for things among liars and
// says what it came to believe (look). It is for scripts that show what becomes of such ones; no command of Blocktree does any of it.
//
//	liar serve CONFIG LISTEN [OTHER-CONFIG OTHER-ADDRESS]
//	liar flood CONFIG SECONDS CONNECTIONS anonymous|own
//	liar ask CONFIG SECONDS
//	liar look CONFIG PATH HONEST-PATH TIMES
package main
