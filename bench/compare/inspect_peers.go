package main

import (
	"fmt"
	"net"
	"path/filepath"
)

func foldersIn(folder string) []string {
	var folders []string
	for node := range 3 {
		folders = append(folders, filepath.Join(folder, fmt.Sprintf("n%d", node)))
	}
	return folders
}

// reads says whether a node answers a local read of a document that is there. Its port is tried first: the clients of
// the systems wait longer and longer between two attempts of their own.
func reads(system system, node int, address string) error {
	stream, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	stream.Close()
	return readFrom(system, node)
}

func (e *etcd) pid(node int) (int, error) { return e.members[node].command.Process.Pid, nil }
func (e *etcd) folders() []string         { return foldersIn(e.folder) }
func (e *etcd) revive(node int) error     { return e.launch(node, "existing") }
func (e *etcd) ready() error              { return e.healthy() }

func (e *etcd) answers(node int) error {
	return reads(e, node, fmt.Sprintf("127.0.0.1:2%d79", node+1))
}

func (g *galera) pid(node int) (int, error) { return g.nodes[node].command.Process.Pid, nil }
func (g *galera) folders() []string         { return foldersIn(g.folder) }
func (g *galera) revive(node int) error     { return g.launch(node, false) }

func (g *galera) answers(node int) error {
	return reads(g, node, fmt.Sprintf("127.0.0.1:%d", 3401+node))
}

func (g *galera) ready() error {
	for node := range 3 {
		if err := g.synced(node); err != nil {
			return err
		}
	}
	return nil
}
