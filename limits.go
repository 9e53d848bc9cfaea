package blocktree

import "time"

// Every bound of the system, each with its reason. A queue, message, option, name, retry or connection count that is
// not bounded here is a defect.
const (
	// DataShardsMax and ParityShardsMax bound codes: wider stripes cost a random read k messages.
	DataShardsMax   = 16
	ParityShardsMax = 4

	// SectorBytesMin and SectorBytesMax bound a file's sector size (a power of two); SectorBytesDefault is a page.
	SectorBytesMin     = 512
	SectorBytesMax     = 64 << 10
	SectorBytesDefault = 4096

	// RegionBytes is how much of a file shares one member set and one view: small enough to re-place, large enough
	// that a terabyte has a thousand of them.
	RegionBytes = 1 << 30

	// FileBytesMax keeps the region count of a file within RegionsMax.
	FileBytesMax = RegionsMax * RegionBytes
	RegionsMax   = 1 << 16

	// RunSectorsMax bounds the sectors of one data record, so that a 1 MiB request of 4 KiB sectors is one record
	// per member; tombstones are bounded by their region only.
	RunSectorsMax = 256

	// RunBytesMax bounds the plain bytes of one data record: shards and their seals fit FrameBodyBytesMax.
	RunBytesMax = 1 << 20

	// FrameHeaderBytesMax and FrameBodyBytesMax bound one message between runtimes.
	FrameHeaderBytesMax = 4 << 10
	FrameBodyBytesMax   = 1280 << 10

	// RuntimeConnectionsMax and RuntimeConnectionsPerPrincipalMax bound what a peer can make a runtime hold.
	RuntimeConnectionsMax             = 1024
	RuntimeConnectionsPerPrincipalMax = 8

	// BriefConnectionsMax bounds the connections of a runtime that were made to ask something, and BriefIdleMax how long one stays that nobody uses: a question is followed by others within a redirect or two, and a handshake costs a
	// few milliseconds. What was found holds for longer.
	BriefConnectionsMax = 64
	BriefIdleMax        = 30 * time.Second

	// DispatchLinksMax bounds the connections that a dispatcher remembers, of which it alone keeps those that somebody was asked for; as many as questions have. DispatchTriesMax bounds the runtimes that are tried for
	// one message, on all directories rootward together: those that are away cost a handshake's time each.
	DispatchLinksMax = 64
	DispatchTriesMax = 64

	// HandshakeTimeout bounds an unauthenticated peer's stay; IdleTimeout is the carrier's own, liveness is the
	// heartbeat's: sent each HeartbeatInterval, a peer silent for DeadAfter is dead.
	HandshakeTimeout  = 5 * time.Second
	IdleTimeout       = 30 * time.Second
	HeartbeatInterval = 250 * time.Millisecond
	DeadAfter         = 1500 * time.Millisecond

	// LanesMax bounds the long-lived streams or TCP connections of one connection between runtimes.
	LanesMax = 128

	// StreamWindowBytes and ConnectionWindowBytes are QUIC's flow-control windows (quic-go's default is 15 MB).
	StreamWindowBytes     = 1 << 20
	ConnectionWindowBytes = 4 << 20

	// LaneQueueBytesMax bounds what waits to be written to one lane; a sender over it blocks or fails.
	LaneQueueBytesMax = 16 << 20

	// RequestsPerConnectionMax bounds calls awaiting an answer on one connection between runtimes.
	RequestsPerConnectionMax = 4096

	// RelaysPerConnectionMax and RelaysMax bound the lanes that a gateway passes on: two for each member of 31 and one to try, of one
	// asker, and together some 60 MiB of buffers. RelaysPerPrincipalMax leaves half for others than whoever asks by many connections.
	// RelaysPerTargetMax is two lanes for as many connections as a member takes from one principal, and a part of the handshakes that a member
	// takes from one address, the gateway's, at a time, so that no asker who begins them and ends none keeps all others out.
	RelaysPerConnectionMax = 64
	RelaysPerPrincipalMax  = 128
	RelaysPerTargetMax     = 2 * RuntimeConnectionsPerPrincipalMax
	RelaysMax              = 256

	// AskLanesMax bounds the lanes of a connection that somebody was asked for. AskHopsMax is how many runtimes an ask goes through: up and down five
	// levels with a step aside on each. AskTimeMax is how far its clock may be off; its token is kept for twice as long, so that it is not taken again.
	AskLanesMax = 4
	AskHopsMax  = 20
	AskTimeMax  = time.Minute
	// AsksPerSecondPerPrincipal and AsksPerSecondMax bound the asks that a runtime looks at, a check of signatures each; AsksBurst is a principal's
	// second of beginning with a cluster of 31, by each way. AsksPerPrincipalMax and AsksMax bound those that it works on, AskTokensMax those that it remembers.
	AsksPerSecondPerPrincipal = 16
	AsksPerSecondMax          = 256
	AsksBurst                 = 128
	AsksPerPrincipalMax       = 64
	AsksMax                   = 512
	AskTokensMax              = AsksMax + 2*AsksPerSecondMax*int(AskTimeMax/time.Second)
	// LegRelaysMax bounds the pairs of carriers that a runtime passes on because it was asked to, LegRelaysPerPrincipalMax those of one asker: two lanes
	// to as many members as a cluster has. LegRelayBytesPerSecond bounds what all of them carry, each way, LegRelayBytesPerSecondPerPrincipal what one
	// principal's do: a part of a line of a gigabit, as whoever is asked serves others with it.
	LegRelaysMax                       = 256
	LegRelaysPerPrincipalMax           = 128
	LegRelayBytesPerSecond             = 64 << 20
	LegRelayBytesPerSecondPerPrincipal = 32 << 20
	// DownlinksMax bounds the clusters below that a runtime keeps connections of, DownlinksPerDirectoryMax those of one: a member that was replaced as the holder of
	// its cluster's uplink, and the one that replaces it.
	DownlinksMax             = 512
	DownlinksPerDirectoryMax = 4

	// CredentialBytesMax and CredentialLinksMax bound the chain that a peer presents in its first frame.
	CredentialBytesMax = 32 << 10
	CredentialLinksMax = 16

	// RaftTick and RaftElectionTicks: a leader is missed after one to two seconds.
	RaftTick          = 100 * time.Millisecond
	RaftElectionTicks = 10
	VotersMax         = 7
	RaftCommandMax    = 1 << 20
	RaftProposalsMax  = 1024

	// SpareAfter is how long a node must have been away before spares take its places over: longer than a restart or a
	// change of cables, as a region's copy-up costs its whole content.
	SpareAfter = 10 * time.Minute
	// LeaseTerm is how long a silent holder keeps its lease. LeaseMargin is what a holder gives up of it for the
	// rates of two clocks, LeaseRenewInterval how often it renews.
	LeaseTerm          = 5 * time.Second
	LeaseMargin        = 500 * time.Millisecond
	LeaseRenewInterval = 1250 * time.Millisecond

	// PassTerm is how long a node goes by what it has judged of who may read or write a file, though nothing has changed; and for how long after it
	// has heard of a leader it serves readers: of a node that nobody can ask, a revocation holds so much later.
	PassTerm = 10 * time.Second
	// PassesPerConnectionMax bounds what a node keeps of what it has judged for one connection: as many files as one session may hold leases of.
	PassesPerConnectionMax = 4096
	// AuditPerSecond bounds the lines about what one principal was refused, and those about rights that it has changed; the rest is counted.
	// AuditPrincipalsMax bounds of how many principals that is kept apart.
	AuditPerSecond     = 10
	AuditPrincipalsMax = 1024
	// RefusedLinesPerSecond bounds the lines about connections that were refused, of all peers together: whoever is refused so early has proven nothing that
	// one could be counted by.
	RefusedLinesPerSecond = 20

	// ClaimTerm is how long a claim on another's lease lasts that is not repeated: long enough for a change of leader while the claimant
	// waits, shorter than LeaseTerm, so that a single late copy of a claim ends nothing.
	ClaimTerm = 3 * time.Second

	// WriteStallTimeout is how long a write waits for enough members before it fails with an I/O error.
	WriteStallTimeout = 30 * time.Second

	// AutoFlushAfter and AutoFlushBytes bound what of a file of durability flush is acknowledged and volatile: a loss of power to every
	// node takes about as much. Twice the bytes are in flight or volatile at a time; a holder keeps them in memory.
	AutoFlushAfter = 2 * time.Second
	AutoFlushBytes = 64 << 20

	// MemberTimeout is how long a member that is still connected may leave a message unanswered before it is voted
	// out: twice the longest plausible sync of a healthy disk.
	MemberTimeout = 4 * time.Second

	// InFlightBytesMax bounds the bytes of unfinished requests in one process: payloads, scratch, and the shards that are made of what is written.
	InFlightBytesMax = 256 << 20

	// PathBytesMax, NameBytesMax and PathDepthMax bound names in the namespace.
	PathBytesMax = 4096
	NameBytesMax = 255
	PathDepthMax = 64

	// ListEntriesMax bounds one answer to a directory listing; more are fetched by cursor.
	ListEntriesMax = 1000

	// GlobMatchesMax bounds the paths that one pattern of a command may fit, which are in memory at once: a directory of as many is better named as a whole.
	GlobMatchesMax = 1 << 20

	// SegmentBytes is the size at which a store starts a new segment.
	SegmentBytes = 64 << 20

	// CheckpointBytes is how much log may be replayed at a restart.
	CheckpointBytes = 256 << 20

	// SpacePercentDefault is how much a store's segments take of what is live in them before writes wait for the compactor, SpacePercentMin and Max what that may be set to:
	// below, it would copy about twice what is written; above, less than a tenth of it, and there is nothing left to gain (docs/design/0046).
	SpacePercentDefault = 130
	SpacePercentMin     = 130
	SpacePercentMax     = 300

	// RecordHeaderBytes is what stands before the payload of a record in a store's segments. The body of a long message lies so far behind a multiple of 4096 in memory, so that its
	// first payload can be written from there past the page cache (docs/design/0053).
	RecordHeaderBytes = 160

	// DirectBytesMin is the payload from which on a record is written so: below it what the padding takes, up to 7 KiB, is more than 3 %, and the gain is small.
	DirectBytesMin = 256 << 10

	// GroupCommitBytesMax bounds the records that wait for one fdatasync.
	GroupCommitBytesMax = 32 << 20

	// ScrubRateDefault is how many bytes per second a node reads to check what it keeps: a TiB in a day and a half, a tenth of what
	// the slowest disks read.
	ScrubRateDefault = 8 << 20

	// FSPunchBytesMax is the most bytes of one request for a hole: in a file of integrity tree its zeros are written as any data is, and 2 MB/s get done with so
	// many before the service gives up; elsewhere 1 TiB takes 16,384 requests.
	FSPunchBytesMax = 64 << 20

	// FSGrowBytesMin and FSGrowBytesMax are how much larger a file is made at least and at most that is written at its end: each time is a command, and room costs nothing until it is written; more than a region at a
	// time saves nothing. FSGrowTreeBytesMax is that of a file of integrity tree, whose zeros are written as any data when what was room before a crash comes to be seen.
	FSGrowBytesMin     = 64 << 10
	FSGrowBytesMax     = 1 << 30
	FSGrowTreeBytesMax = 16 << 20

	// FSLocksPerFileMax bounds the ranges that are locked of one file, which each lock looks at; FSLockWaitsPerFileMax who waits for one. FSLockWaitMax is how long a service waits before the client is to ask again: no longer than a client that is gone is of interest.
	// FSLocksPerConnectionMax bounds both of one connection, of all its files: 64 bytes each, and a request that waits; who may read many files could have the service hold gigabytes else.
	FSLocksPerFileMax       = 4096
	FSLockWaitsPerFileMax   = 256
	FSLocksPerConnectionMax = 2 * FSLocksPerFileMax
	FSLockWaitMax           = 10 * time.Second

	// FSTransferBytesMax is the most bytes of one read or write of the filesystem service. FSInFlightBytesMax bounds what such requests hold at a time,
	// FSAnonymousBytesMax what those of anonymous callers have of it: eight of the longest. Of one connection so much that all that a principal may have
	// leave half to others, who takes no answers too; of one anonymous connection a quarter of what these have.
	FSTransferBytesMax               = 1 << 20
	FSInFlightBytesMax               = 64 << 20
	FSInFlightBytesPerConnectionMax  = FSInFlightBytesMax / (2 * RuntimeConnectionsPerPrincipalMax)
	FSAnonymousBytesMax              = 8 << 20
	FSAnonymousBytesPerConnectionMax = FSAnonymousBytesMax / 4

	// TreeFilesMax bounds the files of a tree that put and get copy at once, TreeBytesMax what of them is on its way: half of what a service takes of one connection, which counts it until a moment after its
	// answer. TreeFilesAnonymousMax is likewise half of what an anonymous connection may have open.
	TreeFilesMax          = 16
	TreeFilesAnonymousMax = FSOpenFilesAnonymousMax / 2
	TreeBytesMax          = FSInFlightBytesPerConnectionMax / 2

	// FSOpenFilesMax bounds the open files of a filesystem service, a sleeping goroutine each; of one connection, so that all that a principal may
	// have leave half to others; of one anonymous connection. FSMailboxMax is how many requests wait for one of them.
	FSOpenFilesMax              = 16384
	FSOpenFilesPerConnectionMax = 1024
	FSOpenFilesAnonymousMax     = 4
	FSMailboxMax                = 64

	// FSWatchesMax bounds the watched directories of a filesystem service, of each of which the cluster is asked every FSJudgeEvery; of one connection, so that all that a principal may have leave half to others.
	// FSWatchEventsMax is how many events wait for whoever watches one, a name each: beyond, it is told to look at all again. FSWatchWaitMax is how long a service waits for one before the client is to ask again.
	FSWatchesMax              = 256
	FSWatchesPerConnectionMax = FSWatchesMax / (2 * RuntimeConnectionsPerPrincipalMax)
	FSWatchEventsMax          = 256
	FSWatchWaitMax            = 10 * time.Second

	// SymlinksMax bounds the symbolic links that are followed on the way to one path, as in Linux: more are a loop. LinkBytesMax bounds a link's target, which is a path.
	SymlinksMax  = 40
	LinkBytesMax = PathBytesMax

	// XattrsMax, XattrNameBytesMax and XattrsBytesMax bound the extended attributes of one file: those of names, with the prefix, are Linux's; all of a file, names and values together, are
	// as long as what Linux lists at once, and go by one command when they are carried over.
	XattrsMax         = 128
	XattrNameBytesMax = 255
	XattrsBytesMax    = 64 << 10

	// TouchEvery is how often at most the cluster is told that an open file was written to, by a command; TouchDeviceEvery the same of a block device, of which nobody asks that each second, and of which one client may have thousands.
	TouchEvery       = time.Second
	TouchDeviceEvery = 30 * time.Second

	// FSPinsMax bounds the access records that a filesystem service remembers, some 200 bytes each; who opens as many other files has one forgotten, and seen for the first time when it
	// is opened next.
	FSPinsMax = 65536

	// KeptRootsMax bounds the roots of files of integrity tree that a directory keeps, a small file for each path: 64 MiB on most disks. Of whose files most are kept, some are forgotten then, and seen for the
	// first time when they are opened next.
	KeptRootsMax = 16384

	// FSPathRequestsMax bounds the requests about paths that a filesystem service works on at a time, each of which asks the cluster;
	// of one connection, so that all that a principal may have leave half to others; of all anonymous ones, and of one of them.
	FSPathRequestsMax                      = 256
	FSPathRequestsPerConnectionMax         = FSPathRequestsMax / (2 * RuntimeConnectionsPerPrincipalMax)
	FSPathRequestsAnonymousMax             = 16
	FSPathRequestsAnonymousConnectionMax   = 4
	FSAnonymousRequestsPerSecond           = 1000
	FSAnonymousRequestsPerSecondConnection = 50

	// FSAnonymousBytesPerSecond bounds what all anonymous callers read, so that the rest of a node's line and processors is for others.
	FSAnonymousBytesPerSecond = 32 << 20

	// FSKeptDirsMax and FSKeptNamesMax bound the directories whose names a filesystem service keeps (docs/design/0079), and the names of all: some 100 bytes each. FSKeptCallersMax is of how many connections it remembers what they may do in one of them: more ask again.
	// FSKeptWorksMax bounds what it names and leaves at a time by itself, a command each.
	FSKeptDirsMax    = 1024
	FSKeptNamesMax   = 65536
	FSKeptCallersMax = 64
	FSKeptWorksMax   = 16
	// FSUnnamedMax is how long a file may be without a name that others see: what a program makes, writes and closes takes less. FSKeptIdleMax is how long a directory is kept in which nothing is made, so that nobody waits for it. FSKeptSweepEvery is how often it is looked for what is due.
	FSUnnamedMax     = 200 * time.Millisecond
	FSKeptIdleMax    = 200 * time.Millisecond
	FSKeptSweepEvery = 20 * time.Millisecond

	// FSFillFor is for how long a client makes names by itself in a directory that it fills (docs/design/0086): long beside a request, and short for who waits for it. FSFillSparesMax and FSFillSparesOfAllMax bound the spares that are set aside for one client, and for all, of meta.SparesPerSessionMax, half of them for one principal, or three quarters with what is named in the place of others (docs/design/0089); FSFillSparesFor is how long for one that neither fills nor makes anything,
	// and FSFillSpareFor how long each, as any spare. FSFillForMin is the least of a term that is of use: less than what a mount keeps back. FSFillRoomBytes is what a cluster has to have left: what is refused after a close is told to nobody who waits.
	// Each request that makes a whole file carries MountHeldBytesMax at most: all that are worked on at a time (FSPathRequestsMax) are 16 MiB.
	FSFillFor            = 250 * time.Millisecond
	FSFillForMin         = 100 * time.Millisecond
	FSFillSparesMax      = 32
	FSFillSparesOfAllMax = 48
	FSFillSparesFor      = 2 * time.Second
	FSFillSpareFor       = 3 * time.Second
	FSFillRoomBytes      = 1 << 30
	// FSRoomsMax bounds the clusters, and codes, of which a filesystem service remembers what room they have: one that is asked for again costs a question.
	FSRoomsMax = 64

	// FSJudgeEvery is how long what the cluster said of a caller's rights on an open file is believed.
	FSJudgeEvery = 2 * time.Second

	// SpaceBelievedFor is how long nodes are not asked again how much room they have: for df, not for writes, which find out.
	SpaceBelievedFor = 5 * time.Second

	// FSIdleMax and FSIdleAnonymousMax are how long nothing need be asked of an open file: a backstop, as files end with their owners.
	// FSReadIdleMax is how long the sectors of one that is not read any more stay open: a read that comes later asks for them again.
	FSIdleMax          = 24 * time.Hour
	FSIdleAnonymousMax = time.Minute
	FSReadIdleMax      = 10 * time.Second

	// MountRequestsMax bounds what a mount asks at a time: what a service takes of one connection about paths (FSPathRequestsPerConnectionMax); and as many reads, of
	// MountReadBytesMax each, are half of what it takes of bytes. MountOpenFilesMax bounds the files and directories that are open in a mount: as many as a service takes of one connection, but
	// for those that are being opened anew.
	MountRequestsMax  = FSPathRequestsPerConnectionMax
	MountReadBytesMax = 128 << 10
	// MountLongReadBytesMax is what the kernel reads at a time, but by nobody's credentials; MountLongReadsMax at a time are longer than MountReadBytesMax, so that with the others they are less than all that a service takes of one connection. MountReadAheadBytes is how much root has it
	// read ahead unless it is said: what costs is each request, and as much is read around a missing page of a mapped file (docs/design/0082).
	MountLongReadBytesMax = FSTransferBytesMax
	MountLongReadsMax     = 2
	MountReadAheadBytes   = 512 << 10
	// MountWriteBytesMax is what is written at a time, as it was read before there were long reads. MountGrowBytesMax bounds the zeros that a mount which was killed may leave behind what was written.
	MountWriteBytesMax = MountReadBytesMax
	MountGrowBytesMax  = 64 << 20
	MountOpenFilesMax  = FSOpenFilesPerConnectionMax - MountRequestsMax
	// MountUnflushedBytesMax bounds what a mount keeps of what was written and is not flushed, to write it again if its service is lost, MountUnflushedFileBytesMax that of one file: beyond, the file with most of it is flushed. It is little beside what a machine that mounts has, and much beside what
	// a flush costs. MountUnflushedWriteBytes is what each write counts beside its bytes.
	MountUnflushedBytesMax     = 64 << 20
	MountUnflushedFileBytesMax = 16 << 20
	MountUnflushedWriteBytes   = 64
	// MountHeldBytesMax bounds what a mount holds of the first bytes of a file that it made, to send them with its finish: a small file (docs/design/0080). After MountUnnamedFor it has them sent, and the file named, MountNamingsMax at a time, so that there are places for what programs ask where that hangs.
	MountHeldBytesMax = 64 << 10
	MountUnnamedFor   = 50 * time.Millisecond
	MountNamingsMax   = MountRequestsMax / 4
	// MountFilledDirsMax and MountFilledNamesMax bound the directories that a mount fills, and the names that it remembers of all (docs/design/0086); what it has neither made a file in nor heard of for MountFilledIdle is forgotten. MountFillMargin is how much of its term has to be left when a name is made, so that the file is sent before the end.
	// MountFillSparesMax is how many spares it has, in files that are not sent, too. Of a spare MountSpareFor is believed, and of all of them MountSparesIdle after the last answer: half of what a service does. MountFillWaitMax is how long is waited for a term: else the file is made as any.
	// MountLaterMax bounds the files that are closed and not sent, so that there are spares for what is made meanwhile of those that one principal gets (FSFillSparesOfAllMax / 2), MountLaterSendsMax those that are being sent: more are no faster, and there are places for what programs ask.
	MountFilledDirsMax  = 1024
	MountFilledNamesMax = 65_536
	MountFilledIdle     = 2 * time.Second
	MountFillMargin     = 100 * time.Millisecond
	MountFillSparesMax  = 32
	MountSpareFor       = 1500 * time.Millisecond
	MountSparesIdle     = time.Second
	MountFillWaitMax    = time.Second
	MountLaterMax       = MountFillSparesMax / 2
	MountLaterSendsMax  = 8
	// MountLockWaitsMax bounds the programs that wait for locks: each keeps a goroutine, and a request at the service, which bounds them for each file.
	MountLockWaitsMax = 1024

	// MountWaitMax is how long a mount waits for a service before a program gets EIO: the failover of a service and of the cluster's leader take seconds each.
	// MountCacheFor is how long the kernel believes what it was told of a name or of attributes, but for who opens a file. MountStopEvery lies between two tries to unmount.
	MountWaitMax   = 30 * time.Second
	MountCacheFor  = time.Second
	MountStopEvery = 500 * time.Millisecond

	// AnonymousConnectionsMax of RuntimeConnectionsMax may be those of anonymous callers, AnonymousConnectionsPerNetworkMax of them of one
	// address (of one /64 with IPv6): nobody in particular can have many keys, but not many addresses. AnonymousLanesMax bounds their lanes.
	AnonymousConnectionsMax           = 64
	AnonymousConnectionsPerNetworkMax = 16
	AnonymousLanesMax                 = 2

	// NBDNegotiationTimeout, NBDOptionsMax, NBDOptionBytesMax and NBDNegotiatingMax bound a client that has not
	// chosen an export; idle chosen ones are normal and are not closed.
	NBDNegotiationTimeout = 10 * time.Second
	NBDOptionsMax         = 32
	NBDOptionBytesMax     = 64 << 10
	NBDNegotiatingMax     = 64

	// NBDPayloadBytesMax is the largest READ or WRITE; NBDConnectionsPerExportMax and
	// NBDRequestsPerConnectionMax bound what one export serves at a time.
	NBDPayloadBytesMax          = 32 << 20
	NBDConnectionsPerExportMax  = 16
	NBDRequestsPerConnectionMax = 128

	// NBDExtentsMax bounds one answer to BLOCK_STATUS: 16 KiB of it.
	NBDExtentsMax = 1024

	// ReadCacheBytesDefault is the clean-sector cache of btnbd.
	ReadCacheBytesDefault = 64 << 20

	// ResealBytesPerSecond is how fast a holder seals anew what is under an older key: a TiB in nine hours, a part of what a disk does.
	ResealBytesPerSecond = 32 << 20

	// ReadAheadPartDefault is the part of the cache, as a divisor, that holds sectors that are read ahead: so little that what is read at
	// random does not miss it, and yet, of ReadCacheBytesDefault, enough for a stream at full speed. No more than ReadAheadBytesMaxDefault, that
	// of eight. ReadAheadWindowBytesMax is how far ahead of one stream is read: what the line carries in some milliseconds.
	// ReadAheadStreamsMax is how many streams of a device are told apart: those of a few copies and of a database's scans.
	ReadAheadPartDefault     = 16
	ReadAheadBytesMaxDefault = 16 << 20
	ReadAheadWindowBytesMax  = 2 << 20
	ReadAheadStreamsMax      = 8

	// RouteHopsMax is how many redirects are followed for one question: directories that are delegated below one another, and back. RouteAsksMax bounds the runtimes
	// that are asked for one, those that are away, refuse or lie among them, and RouteAskTimeout the time that each may take: a dial, and a little.
	// RouteFindTimeout is that of a whole question.
	RouteHopsMax     = 16
	RouteAsksMax     = 64
	RouteAskTimeout  = 8 * time.Second
	RouteFindTimeout = time.Minute

	// RouteRuntimesMax bounds one answer: a cluster has no more sector hosts. RouteRedirectRuntimesMax is as many as are worth asking one after the other;
	// RouteEndpointsMax, as in configurations, those of one runtime. RouteAnswerBytesMax is an answer with credentials, far above what any needs.
	RouteRuntimesMax         = 128
	RouteRedirectRuntimesMax = 16
	RouteEndpointsMax        = 16
	RouteAnswerBytesMax      = 256 << 10

	// RouteTTL is how long what a node answers holds, RouteNegativeTTL that there is nobody: who comes is found soon, who goes is noticed when it is dialled.
	// RouteTTLMax is the most that anybody believes: a lie, or a truth of before, ends by itself. RouteNegativeTTLMax is that of "there is nobody", which, other than
	// a place where nobody is, no failure to connect puts right.
	RouteTTL         = 5 * time.Minute
	RouteNegativeTTL = 10 * time.Second
	RouteTTLMax      = time.Hour

	RouteNegativeTTLMax = time.Minute

	// RouteScopesMax and RouteBytesMax bound what a process remembers of where things are: at most 200 bytes for each scope.
	RouteScopesMax = 1 << 20
	RouteBytesMax  = 200 << 20

	// RouteWaitingMax bounds the questions of one process that are on their way; equal ones are one. More wait their turn.
	RouteWaitingMax = 256

	// RouteQueriesPerSecond and RouteQueriesBurst bound what one querier is answered (an answer costs a signature and a look into the state), RouteAnonymousPerSecond and
	// its burst what one address (of one /64 with IPv6) of anonymous ones is, RouteAnonymousAllPerSecond what all of them are, a part of what a node does.
	// RouteQueriersMax is how many queriers that is kept of.
	RouteQueriesPerSecond      = 200
	RouteQueriesBurst          = 400
	RouteAnonymousPerSecond    = 20
	RouteAnonymousBurst        = 40
	RouteAnonymousAllPerSecond = 200
	RouteAnonymousAllBurst     = 400
	RouteQueriersMax           = 4096

	// KeyPoolListsMax bounds the lists of readers for which a filesystem service has the key of the next file ready: the directories with keys of their own in which programs make files at the same time.
	KeyPoolListsMax = 16

	// IdleGoroutinesMax and IdleGoroutineFor bound what an owner of goroutines keeps for the next requests: with the stacks that those have, a few MiB, for once or twice that time.
	IdleGoroutinesMax = 64
	IdleGoroutineFor  = 5 * time.Second

	// SeedsMax bounds the runtimes of the root directory that a configuration or DNS names, SeedAddressesMax the addresses of one name. SeedsTimeout is that of
	// asking DNS; SeedsAgain how soon it is asked again when all that it named failed.
	SeedsMax         = 32
	SeedAddressesMax = 8
	SeedsTimeout     = 10 * time.Second
	SeedsAgain       = 5 * time.Second
)
