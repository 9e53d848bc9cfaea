// Package invariant has the assertions that stay on in production: a broken invariant is a panic, never an error,
// because going on would risk somebody's only copy. Assertions come in pairs: before the write and after the read.
package invariant
