package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// toolTimeout bounds every helper that is not a server.
const toolTimeout = 30 * time.Second

// tool runs a short command to its end.
func tool(stdin string, name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), toolTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// host is a network namespace with one address.
type host struct {
	name    string
	ns      string
	address string
}

// network is a bridge in a namespace of its own, and hosts on it. Nothing leads out.
type network struct {
	prefix string
	hosts  []*host
	made   []string // namespaces, to be removed
}

// add makes a namespace.
func (n *network) add(name string) (string, error) {
	ns := n.prefix + name
	if err := tool("", "ip", "netns", "add", ns); err != nil {
		return "", err
	}
	n.made = append(n.made, ns)
	return ns, tool("", "ip", "-n", ns, "link", "set", "lo", "up")
}

// newNetwork makes the bridge.
func newNetwork(prefix string) (*network, error) {
	n := &network{prefix: prefix}
	ns, err := n.add("switch")
	if err == nil {
		err = tool("", "ip", "-n", ns, "link", "add", "br0", "type", "bridge")
	}
	if err == nil {
		err = tool("", "ip", "-n", ns, "link", "set", "br0", "up")
	}
	return n, err
}

// host makes a host on the bridge.
func (n *network) host(name string) (*host, error) {
	ns, err := n.add(name)
	if err != nil {
		return nil, err
	}
	h := &host{name: name, ns: ns, address: fmt.Sprintf("10.91.0.%d", len(n.hosts)+1)}
	port, sw := "to-"+name, n.made[0]
	for _, args := range [][]string{
		{"link", "add", "eth0", "netns", ns, "type", "veth", "peer", "name", port, "netns", sw},
		{"-n", ns, "addr", "add", h.address + "/24", "dev", "eth0"},
		{"-n", ns, "link", "set", "eth0", "up"},
		{"-n", sw, "link", "set", port, "master", "br0"},
		{"-n", sw, "link", "set", port, "up"},
	} {
		if err := tool("", "ip", args...); err != nil {
			return nil, err
		}
	}
	n.hosts = append(n.hosts, h)
	return h, nil
}

// in is a command line that runs in the host's namespace; nsenter executes it, so its process id stays.
func (h *host) in(command ...string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + h.ns, "--"}, command...)
}

// cut drops what h gets from peer (in) and what it sends to peer (out), everybody where peer is nil, until heal of the same id.
// New and standing connections alike.
func (h *host) cut(id int, peer *host, in, out bool) error {
	rules := fmt.Sprintf("table inet cut%d {\n", id)
	side := func(hook, match string) {
		what := `meta oifname != "lo" drop`
		if hook == "input" {
			what = `meta iifname != "lo" drop`
		}
		if peer != nil {
			what = fmt.Sprintf("ip %s %s drop", match, peer.address)
		}
		rules += fmt.Sprintf("chain %s { type filter hook %s priority 0; policy accept; %s; }\n", hook, hook, what)
	}
	if in {
		side("input", "saddr")
	}
	if out {
		side("output", "daddr")
	}
	args := h.in("nft", "-f", "-")
	return tool(rules+"}\n", args[0], args[1:]...)
}

// heal takes a cut back.
func (h *host) heal(id int) error {
	args := h.in("nft", "delete", "table", "inet", fmt.Sprintf("cut%d", id))
	return tool("", args[0], args[1:]...)
}

// close removes every namespace, and with them interfaces and rules. Processes in them must be gone.
func (n *network) close() (err error) {
	for _, ns := range n.made {
		if e := tool("", "ip", "netns", "del", ns); e != nil {
			err = e
		}
	}
	return err
}
