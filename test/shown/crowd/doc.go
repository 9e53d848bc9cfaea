// Command crowd fills a directory, by a filesystem service, and measures what its size costs. It is for scripts that show what becomes of a directory of very many entries.
//
//	crowd make CONFIG DIR COUNT [FIRST]   makes COUNT files of a sector in DIR, of which the first has the number FIRST, as many at a time as a service takes of one connection; prints how many a second of the first and of the last tenth, and all seconds
//	crowd list CONFIG DIR         lists DIR by cursors; prints how many entries it has, how many seconds that took, and the seconds of the longest answer
//	crowd one CONFIG DIR TIMES    makes, looks at and removes one file TIMES times; prints the median of the microseconds of each
package main
