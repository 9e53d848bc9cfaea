// Command sealingkey prints, in hexadecimal, the keys that the sectors of a file are sealed under: the newest generation's, and those before. It is for scripts that look for
// them where they must not be, and no command of Blocktree does such a thing.
//
//	sealingkey CONFIG READER-KEY PATH
package main
