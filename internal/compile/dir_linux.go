package compile

import (
	"io/fs"
	"syscall"
)

// inode tells a file apart from one that was renamed into its place.
func inode(st fs.FileInfo) uint64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Ino
	}
	return 0
}
