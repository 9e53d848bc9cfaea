package cred_test

import (
	"fmt"
	"time"

	"blocktree"
	"blocktree/crypto/cred"
)

// A root principal gives a rack to one key, and that key a place in the rack to a node.
func Example() {
	root, _ := cred.GenerateKey()
	rack, _ := cred.GenerateKey()
	node, _ := cred.GenerateKey()
	now := time.Now()
	grant := func(k cred.Key, path string) cred.Grant {
		p, _ := blocktree.ParsePath(path, root.Principal())
		return cred.Grant{Subject: k.Public(), Path: p, Services: []string{blocktree.ServiceSector},
			NotBefore: now.Add(-time.Minute), NotAfter: now.Add(24 * time.Hour)}
	}
	chain, err := cred.Issue(root, nil, root.Principal(), grant(rack, "/rack1"))
	if err != nil {
		fmt.Println(err)
		return
	}
	chain, err = cred.Issue(rack, chain, root.Principal(), grant(node, "/rack1/node-a"))
	if err != nil {
		fmt.Println(err)
		return
	}
	id, err := cred.Verify(chain, root.Principal(), now)
	fmt.Println(id.Path.Short(), id.Services, id.Principal == node.Principal(), err)
	_, err = cred.Issue(rack, chain[:1], root.Principal(), grant(node, "/rack2/node-b"))
	fmt.Println(blocktree.KindOf(err))
	// Output:
	// /rack1/node-a [sector] true <nil>
	// not authenticated
}
