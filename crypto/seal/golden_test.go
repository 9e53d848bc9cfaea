package seal

// Values written by the first version of the format.
const (
	leafGolden   = "377759403baf37a8ec2fff0897d21be9a68d0d4dcce737a2f01d1769047bef0d"
	goldenNonce  = "b7e3a0b48604c8b9605e196ff2a6dbb2a1d3b32aa9e15004"
	goldenTag    = "62036b440f0ec7c809c82c0855bced7d"
	goldenSealed = "050060793690"
)
