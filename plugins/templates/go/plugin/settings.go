package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Settings of a channel.
type Settings struct {
	// Begins with "/", holds no white space.
	Prefix string
	// Nil: every model.
	Models []string
}

// Serve says whether the channel serves this model.
func (s Settings) Serve(model string) bool {
	return s.Models == nil || slices.Contains(s.Models, model)
}

// ReadSettings reads settings from JSON; no text at all means none. Every name and type is checked, and an error says
// which is wrong.
func ReadSettings(text string) (Settings, error) {
	if text == "" {
		text = "{}"
	}
	if !json.Valid([]byte(text)) {
		return Settings{}, errors.New("settings: expected JSON")
	}
	var given map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &given); err != nil || given == nil {
		return Settings{}, errors.New("settings: expected an object")
	}
	// In the order of their names, so that the message is always the same.
	for _, name := range slices.Sorted(maps.Keys(given)) {
		// Names that begin with "_" are comments.
		if name != "prefix" && name != "models" && !strings.HasPrefix(name, "_") {
			return Settings{}, fmt.Errorf("settings: unknown setting `%s` (known: prefix, models)", name)
		}
	}

	settings := Settings{Prefix: "/v1"}
	if value, ok := given["prefix"]; ok {
		// A pointer, since null leaves a plain string as it was.
		var prefix *string
		if json.Unmarshal(value, &prefix) != nil || prefix == nil {
			return Settings{}, errors.New("settings.prefix: expected a string")
		}
		settings.Prefix = *prefix
	}
	if !strings.HasPrefix(settings.Prefix, "/") || strings.ContainsAny(settings.Prefix, " \t\n\v\f\r") {
		return Settings{}, errors.New("settings.prefix: must begin with `/` and hold no white space")
	}
	if value, ok := given["models"]; ok {
		var models []*string
		if json.Unmarshal(value, &models) != nil || models == nil || slices.Contains(models, nil) {
			return Settings{}, errors.New("settings.models: expected a list of strings")
		}
		settings.Models = []string{}
		for _, model := range models {
			settings.Models = append(settings.Models, *model)
		}
	}
	return settings, nil
}
