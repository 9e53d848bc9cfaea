// Command tables does the same things to files on a local file system and on mounts, as several users, and compares what each program would be told: the tables of rights, names and renames of test/shown/7-06-tables, in the way of
// pjdfstest.
//
// 1. A case is some statements, each done by a user; it has a directory of its own, which everybody may write. 2. Each statement is done in both trees, one after the other, and answers with the name of an errno, or with OK and what
// there is to tell. 3. Another answer is a deviation. 4. One that is in the list of those that are decided is counted; the rest of its case is not compared, as it may follow from that. 5. Any other fails the command, as does one of
// the list that was not met.
//
// A user's tree is a mount of his own, as a mount is for who has made it; the local one is the same directory for all. Statements of a user are done by a thread with his ids.
package main
