// Package lint holds layers and style as tests: what docs and DESIGN section 11 say about the source is checked, not hoped.
// It has no code but tests, and no package imports it.
//
// The rules. 1. Imports point to a strictly lower layer; a package without a layer fails (layers_test.go has the table).
// 2. Every package has a doc.go with its package comment; every exported identifier is documented. 3. A file has at most
// 600 lines, a function 70. 4. No init, no exit outside main packages, no global logger. 5. No package-level variable that
// changes; what the heuristic cannot see to be constant is named, with its reason, in vars.txt. 6. A package that decodes
// bytes has a fuzz target. 7. Sources are formatted; nothing is left "to do"; no path of one machine. 8. A test is skipped
// only with a message of skips.txt: here by reading the sources, in `make test` by watching the run (internal/lint/gotest). 9. Each row of README.md's
// table of what NBD supports names a test or script that proves it, and that is there.
//
// Each rule is a function from sources to complaints with its own test on a source that breaks it, so that a rule that
// stopped working is noticed.
package lint
