package cluster

// Codes of the messages between runtimes (bttp), append-only.
const (
	codeStripe   uint16 = 1  // a stripe.Message to a member; its answer
	codeRaft     uint16 = 2  // an envelope of cluster/meta, not answered; header: the sender's store
	codePropose  uint16 = 3  // an encoded meta.Command; header: a leaderHeader, an encoded meta.Result
	codeQuery    uint16 = 4  // an encoded meta.Query; header: a leaderHeader, an encoded meta.Answer
	codeHello    uint16 = 5  // nothing; node id and incarnation
	codeYield    uint16 = 6  // a file's identity: let go of the lease you hold for copying up
	codeKnown    uint16 = 7  // the asker's store; the token of its newest start that the answering node knows
	codeScrub    uint16 = 8  // a scrubRequest; how the node's scrubs stand
	codeCopyUp   uint16 = 9  // one-way, header: a copyUp, from the file's holder
	codeCopyUps  uint16 = 10 // nothing; the copyUps that the node was told of lately
	codeSuspects uint16 = 12 // one-way: hints from a client; nothing: what the node knows of members that lie
	codeSpace    uint16 = 16 // nothing; the Space of the disk of the node's store
	codeReach    uint16 = 11 // a node's id: do you have a connection of your own to it? Nothing, or Unavailable
)

// Codes of ways through firewalls (0034).
const (
	codeUplink     uint16 = 40 // header: 1, this connection is my cluster's uplink, or 0, it is no more; nothing
	codeUplinkHeld uint16 = 41 // nothing, or a challenge, from a sibling; header: one byte, whether the answering member holds the uplink; body: nothing, or the word of the runtime above (0049)
	codeWay        uint16 = 42 // header: a wayHeader; body: a bttp.Ask. Nothing, once the target has agreed
	codeHere       uint16 = 46 // one-way, header: a here, from a sibling
	codeUplinkWord uint16 = 47 // header: a challenge, on a connection that is a cluster's line; an uplinkWord (0049)
)

// codeRoute asks where something is (0032): a query of package route; an answer of it, in the body. Anybody may ask, within bounds: the answerer judges.
const codeRoute uint16 = 43

// Codes of what a filesystem service of a directory above asks in the name of its caller (0042): bodies and answers as of codePropose and codeQuery. Who says no caller, or may not speak for one, is refused:
// by those codes a node that knows no such service would take it as asked by the service itself.
const (
	codeProposeFor uint16 = 44
	codeQueryFor   uint16 = 45
)

// CodesOfOthers is the first code of messages that are not the cluster's, but those of another service of the same runtime.
const CodesOfOthers uint16 = 256
