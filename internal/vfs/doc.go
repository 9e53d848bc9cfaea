// Package vfs is the disk seam: everything that cluster/store knows of a disk it knows through FS and File. Disk is the
// real one, DiskReadOnly the same without any way to change it, Crash forgets what was not synced, Fault fails on order. Boot
// is for what is to be forgotten with the machine's memory.
//
// What it refuses to be: a general file system. There are no permissions, no links, no seeking, and a path is only
// ever a directory or a file that the caller made.
//
// What a caller may rely on, on every implementation, is what it has synced, in this order:
//
//  1. Bytes written are durable once a Datasync or Sync that began after the write has returned nil.
//  2. A name (after Create, Rename or Remove) is durable once a SyncDir of its directory that began later has returned nil.
//  3. Until then each write, also one past the cache (Direct), may be kept, dropped or torn between sectors of 512 bytes, in any order; each change of a name
//     may be kept or dropped, but is whole.
//  4. After a failed sync nothing is known of what it should have made durable, and trying again proves nothing.
//
// All methods may be called by many goroutines at once; writes that overlap in time and place are the caller's mistake.
// Errors are *blocktree.Error of kinds NotFound, Exists, Busy, NoSpace, Permission, ReadOnly, Closed, Invalid or IO. Importers:
// cluster/store, those who hand it a disk, and tests.
package vfs
