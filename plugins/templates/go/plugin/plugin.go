// Package plugin is what this plugin decides. Plain data in, plain data out: the gateway does the rest.
//
// The types are generated from wit/plugin.wit into the folder imports.
package plugin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	channel "my_plugin/imports/aiproxy_plugin_channel"
	types "my_plugin/imports/aiproxy_plugin_types"
)

// What Configure read; one instance serves one channel.
var settings Settings

// Configure is called once, first. An error refuses this version of the plugin with its message. info writes a line to
// the gateway's log.
func Configure(config channel.ChannelConfig, info func(line string)) (types.Profile, error) {
	read, err := ReadSettings(config.Settings)
	if err != nil {
		return types.Profile{}, err
	}
	settings = read
	info("serving under " + settings.Prefix)
	return types.Profile{
		// The gateway shows the headers that are named here, and no others.
		Headers:    []string{"x-tenant"},
		ReadsModel: true,
		Meters: [][]types.Meter{{
			meter("input", "/usage/prompt_tokens", "/usage/input_tokens"),
			meter("output", "/usage/completion_tokens", "/usage/output_tokens"),
		}},
		// Decide depends on its arguments alone, the caller's id among them.
		Reuse: types.Reuse_SameCaller,
	}, nil
}

// A quantity that stands under the first pointer that is there.
func meter(name string, pointers ...string) types.Meter {
	alternatives := [][]string{}
	for _, pointer := range pointers {
		alternatives = append(alternatives, []string{pointer})
	}
	return types.Meter{
		Name:         name,
		Alternatives: alternatives,
		Fold:         types.Fold_Last,
		Group:        witTypes.None[string](),
	}
}

// Decide is called for every request on the channel, but for those whose answer is reused.
func Decide(request types.Request, caller types.Caller) channel.Answer {
	if !strings.HasPrefix(request.Path, "/v1/") {
		return channel.MakeAnswerDecline()
	}
	if model := request.Model.SomeOr(""); request.Model.IsSome() && !settings.Serve(model) {
		return channel.MakeAnswerRefuse(types.Refusal{
			Status:  404,
			Code:    "model_not_found",
			Message: fmt.Sprintf("the model `%s` is not served by this channel", model),
		})
	}

	headers := []types.HeaderEdit{
		types.MakeHeaderEditSet(types.Field{F0: "x-client", F1: caller.Id}),
		types.MakeHeaderEditRemove("x-tenant"),
	}
	isTenant := func(header types.Field) bool { return header.F0 == "x-tenant" }
	if i := slices.IndexFunc(request.Headers, isTenant); i >= 0 {
		tenant := request.Headers[i].F1
		headers = append(headers, types.MakeHeaderEditSet(types.Field{F0: "x-organization", F1: tenant}))
	}

	body := []types.BodyEdit{}
	// The model stands in a JSON body, or in a form: that the gateway refuses to edit, with 415.
	if request.Method == "POST" && request.Model.IsSome() {
		user, _ := json.Marshal(caller.Id) // a string always has a JSON form
		body = append(body, types.MakeBodyEditSetIfAbsent(types.Field{F0: "/user", F1: string(user)}))
	}

	return channel.MakeAnswerSend(types.Plan{
		Endpoint: witTypes.None[string](),
		Path:     strings.TrimRight(settings.Prefix, "/") + strings.TrimPrefix(request.Path, "/v1"),
		Query:    request.Query,
		Headers:  headers,
		Body:     body,
		// The gateway puts the channel's key there; the plugin never sees it.
		Credentials: []types.Credential{{Secret: "key", Place: types.MakePlacementAuthorization("Bearer")}},
		Model:       witTypes.None[string](),
		Meters:      witTypes.Some[uint32](0),
	})
}
