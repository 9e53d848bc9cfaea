package cred

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestKeyIsNeverPrinted: a key inside a config inside something that is logged is the usual way in which keys get out.
func TestKeyIsNeverPrinted(t *testing.T) {
	key := testKey(7)
	inside := struct{ config struct{ key Key } }{}
	inside.config.key = key
	seed := []byte(key.private())[:4] // 7, 7, 7, 7
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%p"} {
		for _, v := range []any{key, &key, []Key{key}, TLSOptions{Key: key}, &TLSOptions{Key: key}, inside, &inside} {
			got := strings.ToLower(fmt.Sprintf(verb, v))
			for _, secret := range []string{fmt.Sprint(seed)[1:8], fmt.Sprintf("%x", seed), "0x7, 0x7, 0x7", `\a\a\a`, string(seed)} {
				if strings.Contains(got, secret) {
					t.Errorf("%s of %T prints the key: %s", verb, v, got)
				}
			}
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("made", "key", key, "options", TLSOptions{Key: key})
	if !strings.Contains(log.String(), key.Principal().String()) || strings.Contains(log.String(), "BwcHBwcH") {
		t.Errorf("logged as %s", log.String())
	}
	if got := fmt.Sprint(Key{}); !strings.Contains(got, "anonymous") {
		t.Errorf("no key prints as %s", got)
	}
}
