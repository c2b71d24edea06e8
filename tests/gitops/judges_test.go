// What the tools of others think of our resources: kstatus, in its original and as Flux and Helm use it, and Argo CD's Lua.
package gitops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	flux "github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

// What each tool should think of each sample.
var judgements = map[string]struct {
	kstatus status.Status
	argo    string
}{
	"fresh":         {status.InProgressStatus, "Progressing"},
	"begun":         {status.InProgressStatus, "Progressing"},
	"starting":      {status.InProgressStatus, "Progressing"},
	"waking":        {status.InProgressStatus, "Progressing"},
	"synchronizing": {status.InProgressStatus, "Progressing"},
	"ready":         {status.CurrentStatus, "Healthy"},
	"changed":       {status.InProgressStatus, "Progressing"},
	"updating":      {status.InProgressStatus, "Progressing"},
	"one-offline":   {status.InProgressStatus, "Progressing"},
	"no-quorum":     {status.InProgressStatus, "Degraded"},
	"stalled":       {status.FailedStatus, "Degraded"},
	"invalid":       {status.FailedStatus, "Degraded"},
	"hibernated":    {status.CurrentStatus, "Suspended"},
	"deleting":      {status.TerminatingStatus, "Progressing"},
}

func samples(t *testing.T) map[string]*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob("samples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	found := map[string]*unstructured.Unstructured{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// As clients read it: whole numbers stay whole.
		object := &unstructured.Unstructured{}
		json, err := yaml.YAMLToJSON(text)
		if err == nil {
			err = object.UnmarshalJSON(json)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		found[strings.TrimSuffix(filepath.Base(file), ".yaml")] = object
	}
	if len(found) != len(judgements) {
		t.Errorf("%d samples, %d judgements", len(found), len(judgements))
	}
	return found
}

func TestKstatus(t *testing.T) {
	for name, object := range samples(t) {
		result, err := status.Compute(object)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		other, err := flux.Compute(object)
		if err != nil || string(other.Status) != string(result.Status) {
			t.Errorf("%s: as Flux and Helm use it, kstatus says %v (%v)", name, other, err)
		}
		if result.Status != judgements[name].kstatus {
			t.Errorf("%s: kstatus says %s (%s), expected %s", name, result.Status, result.Message, judgements[name].kstatus)
		}
	}
}

// As Argo CD runs a health script: package, base and table, but no string library and no way to the machine.
func argo(t *testing.T, script string, object map[string]any) (string, string) {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}, lua.LString(library.name)); err != nil {
			t.Fatal(err)
		}
	}
	state.SetGlobal("obj", value(state, object))
	if err := state.DoString(script); err != nil {
		t.Fatalf("health.lua: %v", err)
	}
	result, isTable := state.Get(-1).(*lua.LTable)
	if !isTable {
		t.Fatalf("health.lua gave %s, not a table", state.Get(-1).Type())
	}
	return result.RawGetString("status").String(), result.RawGetString("message").String()
}

func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case map[string]any:
		table := state.CreateTable(0, len(from))
		for key, inner := range from {
			table.RawSetString(key, value(state, inner))
		}
		return table
	case []any:
		table := state.CreateTable(len(from), 0)
		for _, inner := range from {
			table.Append(value(state, inner))
		}
		return table
	case string:
		return lua.LString(from)
	case bool:
		return lua.LBool(from)
	case float64:
		return lua.LNumber(from)
	case int64:
		return lua.LNumber(from)
	}
	return lua.LNil
}

func TestArgo(t *testing.T) {
	script, err := os.ReadFile("../../deploy/argocd/health.lua")
	if err != nil {
		t.Fatal(err)
	}
	for name, object := range samples(t) {
		health, message := argo(t, string(script), object.Object)
		if health != judgements[name].argo {
			t.Errorf("%s: Argo CD shows %s (%s), expected %s", name, health, message, judgements[name].argo)
		}
		if message == "" || message == "nil" {
			t.Errorf("%s: no message", name)
		}
	}
}

// The script that people paste into argocd-cm is the one that is tested.
func TestConfigMap(t *testing.T) {
	script, err := os.ReadFile("../../deploy/argocd/health.lua")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../deploy/argocd/argocd-cm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	object := struct {
		Data map[string]string `json:"data"`
	}{}
	if err := yaml.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	if got := object.Data["resource.customizations.health.coequal.dev_ReplicatedDatabase"]; got != string(script) {
		t.Errorf("deploy/argocd/argocd-cm.yaml does not hold deploy/argocd/health.lua:\n%s", got)
	}
}
