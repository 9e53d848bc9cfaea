package route

import "blocktree/internal/wire"

// SealUnchecked is Seal of who lies.
func SealUnchecked(s Signer, a Answer) []byte {
	var e wire.Encoder
	e.U8(formatAnswer)
	body := EncodeAnswer(a)
	e.Bytes(body)
	e.Bytes(s.Credentials.Encode())
	e.Raw(s.Key.Sign(append([]byte(signedAs), body...)))
	return e.Buf
}

// EncodeAnswer and DecodeAnswer are the body's codec.
func EncodeAnswer(a Answer) []byte {
	var e wire.Encoder
	a.encode(&e)
	return e.Buf
}

// DecodeAnswer reads it.
func DecodeAnswer(in []byte) (Answer, error) { return decodeAnswer(in) }

// Queriers is of how many queriers the Answerer keeps something.
func (a *Answerer) Queriers() int {
	a.rates.mu.Lock()
	defer a.rates.mu.Unlock()
	return len(a.rates.queriers)
}

// Admit is the rate bound by itself.
func (a *Answerer) Admit(q Querier) bool { return a.rates.admit(q, a.cfg.Now()) }
