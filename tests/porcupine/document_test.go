package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// verdict writes a history down, reads it again and judges it.
func verdict(t *testing.T, history []Operation) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "history")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range history {
		if err := json.NewEncoder(file).Encode(op); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return judge(path)
}

// at gives an operation on one key its time.
func at(call, end int64, op Operation) Operation {
	op.Key, op.Call, op.Return = "k", call, end
	return op
}

var (
	created  = Operation{Op: "put", Sent: 1, Status: 201, Version: 1}
	replaced = Operation{Op: "put", Sent: 2, Status: 200, Version: 2}
	deleted  = Operation{Op: "delete", Status: 204}
	unknown  = Operation{Op: "put", Sent: 3}
)

func reads(version uint64, a, b int64) Operation {
	return Operation{Op: "read", Status: 200, Version: version, A: a, B: b}
}

var absent = Operation{Op: "read", Status: 404}

func TestWhatMayHappenIsLinearizable(t *testing.T) {
	for name, history := range map[string][]Operation{
		"one after the other": {at(1, 2, created), at(3, 4, reads(1, 1, 0)), at(5, 6, replaced), at(7, 8, reads(2, 2, 0))},
		"at once, either way": {at(1, 9, created), at(1, 9, absent), at(1, 9, reads(1, 1, 0))},
		"deleted and created again": {
			at(1, 2, created), at(3, 4, deleted), at(5, 6, absent), at(7, 8, Operation{Op: "put", Sent: 4, Status: 201, Version: 3}),
		},
		"unknown, and it happened":       {at(1, 2, created), at(3, 0, unknown), at(5, 6, reads(2, 3, 0))},
		"unknown, and it never happened": {at(1, 2, created), at(3, 0, unknown), at(5, 6, reads(1, 1, 0))},
		"unknown, and it happened late":  {at(1, 2, created), at(3, 0, unknown), at(5, 6, reads(1, 1, 0)), at(7, 8, reads(2, 3, 0))},
		"a patch keeps the rest":         {at(1, 2, created), at(3, 4, Operation{Op: "patch", Sent: 7, Status: 200, Version: 2}), at(5, 6, reads(2, 1, 7))},
		"conditions": {
			at(1, 2, created), at(3, 4, Operation{Op: "put", Sent: 5, IfAbsent: true, Status: 412, Version: 1}),
			at(5, 6, Operation{Op: "put", Sent: 6, IfVersion: 1, Status: 200, Version: 2}),
			at(7, 8, Operation{Op: "delete", IfVersion: 1, Status: 412, Version: 2}),
		},
	} {
		if code := verdict(t, history); code != 0 {
			t.Errorf("%s: %d", name, code)
		}
	}
}

func TestWhatMustNotHappenIsNotLinearizable(t *testing.T) {
	for name, history := range map[string][]Operation{
		"a lost write":                  {at(1, 2, created), at(3, 4, absent)},
		"a stale read":                  {at(1, 2, created), at(3, 4, replaced), at(5, 6, reads(1, 1, 0))},
		"a read that goes back":         {at(1, 9, created), at(2, 3, reads(1, 1, 0)), at(4, 5, absent)},
		"a value that nobody wrote":     {at(1, 2, created), at(3, 4, reads(1, 9, 0))},
		"a deleted document came back":  {at(1, 2, created), at(3, 4, deleted), at(5, 6, reads(1, 1, 0))},
		"a write that counted twice":    {at(1, 2, created), at(3, 4, reads(2, 1, 0))},
		"two creations":                 {at(1, 9, created), at(1, 9, created)},
		"a condition was not looked at": {at(1, 2, created), at(3, 4, replaced), at(5, 6, Operation{Op: "put", Sent: 6, IfVersion: 1, Status: 200, Version: 3})},
		"refused without a reason":      {at(1, 2, created), at(3, 4, Operation{Op: "put", Sent: 6, IfVersion: 1, Status: 412})},
		"a patch forgot the rest":       {at(1, 2, created), at(3, 4, Operation{Op: "patch", Sent: 7, Status: 200, Version: 2}), at(5, 6, reads(2, 0, 7))},
		"unknown, twice":                {at(1, 2, created), at(3, 0, unknown), at(5, 6, reads(2, 3, 0)), at(7, 8, Operation{Op: "put", Sent: 2, Status: 200, Version: 3}), at(9, 10, reads(4, 3, 0))},
		"a version was used twice":      {at(1, 2, created), at(3, 4, replaced), at(5, 6, replaced)},
	} {
		if code := verdict(t, history); code != 1 {
			t.Errorf("%s: %d", name, code)
		}
	}
}
