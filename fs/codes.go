package fs

import "blocktree/cluster"

// Codes of the service's messages (bttp), append-only.
const (
	codeStat   = cluster.CodesOfOthers + 0  // a pathRequest; an Info
	codeList   = cluster.CodesOfOthers + 1  // a pathRequest; entries
	codeOpen   = cluster.CodesOfOthers + 2  // a pathRequest; a handle and an Info
	codeRead   = cluster.CodesOfOthers + 3  // header: a fileRequest; the bytes, fewer than asked for at the end
	codeWrite  = cluster.CodesOfOthers + 4  // header: a fileRequest, and the bytes; nothing
	codeFlush  = cluster.CodesOfOthers + 5  // header: a fileRequest; nothing
	codeClose  = cluster.CodesOfOthers + 6  // header: a fileRequest; nothing
	codeCreate = cluster.CodesOfOthers + 7  // a pathRequest; a made file, of a version before nothing
	codeMkdir  = cluster.CodesOfOthers + 8  // a pathRequest; nothing
	codeRemove = cluster.CodesOfOthers + 9  // a pathRequest; nothing
	codeResize = cluster.CodesOfOthers + 10 // a pathRequest; nothing
	codeLength = cluster.CodesOfOthers + 11 // a pathRequest; nothing
	codeRename = cluster.CodesOfOthers + 12 // a renameRequest; nothing
	codeSum    = cluster.CodesOfOthers + 13 // header: a fileRequest; the SHA-256 of those bytes, and their number
	codePunch  = cluster.CodesOfOthers + 14 // header: a fileRequest; nothing
	// codeRemoveFile is codeRemove of a file that is named. A service of a version before refuses it (Unsupported), where it would pass over a field.
	codeRemoveFile = cluster.CodesOfOthers + 15 // a removeRequest; nothing
	// What is done to the end of a file (docs/design/0059).
	codeCut      = cluster.CodesOfOthers + 16 // header: a fileRequest, whose off is where the file is to end; nothing
	codeAllocate = cluster.CodesOfOthers + 17 // header: a fileRequest, whose off is where the file is to end at least; nothing
	codeAppend   = cluster.CodesOfOthers + 18 // header: a fileRequest, and the bytes; where they begin
	codeFileStat = cluster.CodesOfOthers + 19 // header: a fileRequest; an Info
	codeTruncate = cluster.CodesOfOthers + 20 // a pathRequest, whose size is where the file is to end; nothing
	codeLock     = cluster.CodesOfOthers + 21 // header: a lockRequest; nothing, or a Lock

	codeSetTimes    = cluster.CodesOfOthers + 22 // an attrRequest; nothing
	codeSymlink     = cluster.CodesOfOthers + 23 // an attrRequest; nothing
	codeReadLink    = cluster.CodesOfOthers + 24 // an attrRequest; the target
	codeGetXattr    = cluster.CodesOfOthers + 25 // an attrRequest; the value
	codeSetXattr    = cluster.CodesOfOthers + 26 // an attrRequest; nothing
	codeListXattr   = cluster.CodesOfOthers + 27 // an attrRequest; names
	codeRemoveXattr = cluster.CodesOfOthers + 28 // an attrRequest; nothing

	codeWatch   = cluster.CodesOfOthers + 29 // a pathRequest; a handle and an Info
	codeWatched = cluster.CodesOfOthers + 30 // header: a fileRequest, whose off is the last event that was heard of; events, none if there were none for a while

	codeMakeOpen = cluster.CodesOfOthers + 31 // a pathRequest, as that of codeCreate; a handle and an Info (docs/design/0067)
	codeFinish   = cluster.CodesOfOthers + 32 // header: a fileRequest; nothing

	codeWriteFinish = cluster.CodesOfOthers + 33 // header: a fileRequest, and the bytes; nothing (docs/design/0080)

	codeFill      = cluster.CodesOfOthers + 34 // a pathRequest, as that of codeMakeOpen, of a directory, whose limit is how many spares at most; a Filling (docs/design/0086)
	codeMakeWhole = cluster.CodesOfOthers + 35 // a request of encodeWhole; an Info and a Filling, or that nothing was made and a Filling (docs/design/0089)
	codeMkdirFill = cluster.CodesOfOthers + 36 // a pathRequest, as that of codeFill, but for the mode, which is that of the directory; an Info, if there is one, and a Filling (docs/design/0088)
)

// codeSpace asks what room there is: a pathRequest, whose code is that of files; a Space.
const codeSpace = cluster.CodesOfOthers + 48

// ofAttribute reports whether the request of a code is an attrRequest.
func ofAttribute(code uint16) bool { return code >= codeSetTimes && code <= codeRemoveXattr }

// forAnybody reports whether an anonymous caller may ask: to look, to list, and to read, or to compare; links and attributes, too.
func forAnybody(code uint16) bool {
	switch code {
	case codeStat, codeList, codeOpen, codeRead, codeSum, codeClose, codeReadLink, codeGetXattr, codeListXattr:
		return true
	}
	return false
}

// ofHandle reports whether the message is for an open file.
func ofHandle(code uint16) bool {
	switch code {
	case codeRead, codeSum, codeWrite, codePunch, codeFlush, codeClose, codeCut, codeAllocate, codeAppend, codeFileStat, codeLock, codeWatched, codeFinish, codeWriteFinish:
		return true
	}
	return false
}

// known reports whether the service has the code.
func known(code uint16) bool { return code >= codeStat && code <= codeMkdirFill }
