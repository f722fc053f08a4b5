// Applies objects one after the other with the library that the Kubernetes API server applies objects with, and prints
// what is there after each.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"sigs.k8s.io/structured-merge-diff/v4/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v4/merge"
	"sigs.k8s.io/structured-merge-diff/v4/typed"
	"sigs.k8s.io/structured-merge-diff/v4/value"
)

const version = fieldpath.APIVersion("v1")

type input struct {
	Schema json.RawMessage
	Type   string
	Steps  []step
}

// A manager that applies; without a manager's name, the server that fills in defaults.
type step struct {
	Manager string
	Force   bool
	Object  json.RawMessage
}

// One version of the object is all there is.
type converter struct{}

func (converter) Convert(object *typed.TypedValue, _ fieldpath.APIVersion) (*typed.TypedValue, error) {
	return object, nil
}

func (converter) IsMissingVersionError(error) bool { return false }

func main() {
	var in input
	check(json.NewDecoder(os.Stdin).Decode(&in))
	parser, err := typed.NewParser(typed.YAMLObject(in.Schema))
	check(err)
	kind := parser.Type(in.Type)
	live, err := kind.FromYAML("{}")
	check(err)
	managers := fieldpath.ManagedFields{}
	updater := &merge.Updater{Converter: converter{}}
	var states []json.RawMessage
	for _, step := range in.Steps {
		object, err := kind.FromYAML(typed.YAMLObject(step.Object))
		check(err)
		if step.Manager == "" {
			live, err = object.Merge(live)
		} else {
			var next *typed.TypedValue
			next, managers, err = updater.Apply(live, object, version, managers, step.Manager, step.Force)
			if next != nil {
				live = next
			}
		}
		check(err)
		state, err := value.ToJSON(live.AsValue())
		check(err)
		states = append(states, state)
	}
	check(json.NewEncoder(os.Stdout).Encode(states))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
