// The decisions, natively: no Wasm and no gateway.
package plugin

import (
	"reflect"
	"testing"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	channel "my_plugin/imports/aiproxy_plugin_channel"
	types "my_plugin/imports/aiproxy_plugin_types"
)

var caller = types.Caller{Id: "alice"}

// Configures with these settings; gives the profile and what was logged.
func configured(t *testing.T, settings string) (types.Profile, []string) {
	t.Helper()
	var lines []string
	config := channel.ChannelConfig{Id: "c", Name: "C", Settings: settings, Secrets: []string{"key"}}
	profile, err := Configure(config, func(line string) { lines = append(lines, line) })
	if err != nil {
		t.Fatal(err)
	}
	return profile, lines
}

// A request as the gateway describes it, for the model small.
func request(method, path string) types.Request {
	return types.Request{
		Transport: types.Transport_Http,
		Method:    method,
		Path:      path,
		Query:     witTypes.None[string](),
		Presented: types.MakePresentedAuthorization("bearer"),
		Model:     witTypes.Some("small"),
	}
}

func without(request types.Request) types.Request {
	request.Model = witTypes.None[string]()
	return request
}

func equal(t *testing.T, is, wanted any) {
	t.Helper()
	if !reflect.DeepEqual(is, wanted) {
		t.Errorf("is     %#v\nwanted %#v", is, wanted)
	}
}

func TestAnEmptyConfigurationServesEverythingUnderV1(t *testing.T) {
	profile, lines := configured(t, "")
	equal(t, lines, []string{"serving under /v1"})
	equal(t, profile.Headers, []string{"x-tenant"})
	equal(t, profile.ReadsModel, true)
	equal(t, profile.Reuse, uint8(types.Reuse_SameCaller))
	equal(t, profile.Meters[0][1].Alternatives, [][]string{{"/usage/completion_tokens"}, {"/usage/output_tokens"}})
}

func TestARequestIsSentWithTheCallersNameAndTheChannelsKey(t *testing.T) {
	configured(t, `{"prefix": "/api/", "_note": 1}`)
	asked := request("POST", "/v1/chat/completions")
	asked.Query = witTypes.Some("a=1&b")
	equal(t, Decide(asked, caller), channel.MakeAnswerSend(types.Plan{
		Endpoint: witTypes.None[string](),
		Path:     "/api/chat/completions",
		Query:    witTypes.Some("a=1&b"),
		Headers: []types.HeaderEdit{
			types.MakeHeaderEditSet(types.Field{F0: "x-client", F1: "alice"}),
			types.MakeHeaderEditRemove("x-tenant"),
		},
		Body:        []types.BodyEdit{types.MakeBodyEditSetIfAbsent(types.Field{F0: "/user", F1: `"alice"`})},
		Credentials: []types.Credential{{Secret: "key", Place: types.MakePlacementAuthorization("Bearer")}},
		Model:       witTypes.None[string](),
		Meters:      witTypes.Some[uint32](0),
	}))
}

func TestTheFirstTenantBecomesTheOrganization(t *testing.T) {
	configured(t, "{}")
	asked := request("POST", "/v1/chat/completions")
	asked.Headers = []types.Field{{F0: "x-tenant", F1: "one"}, {F0: "x-tenant", F1: "two"}}
	edits := Decide(asked, caller).Send().Headers
	equal(t, len(edits), 3)
	equal(t, edits[2], types.MakeHeaderEditSet(types.Field{F0: "x-organization", F1: "one"}))
}

func TestABodyIsEditedOnlyWhereThereIsOneWithAModel(t *testing.T) {
	configured(t, "{}")
	equal(t, len(Decide(request("POST", "/v1/x"), caller).Send().Body), 1)
	equal(t, len(Decide(request("GET", "/v1/x"), caller).Send().Body), 0)
	equal(t, len(Decide(without(request("POST", "/v1/x")), caller).Send().Body), 0)
}

func TestAPathOutsideV1IsDeclined(t *testing.T) {
	configured(t, "{}")
	for _, path := range []string{"/", "/v1", "/v10/models", "/other/v1/models"} {
		equal(t, Decide(request("POST", path), caller), channel.MakeAnswerDecline())
	}
}

func TestAModelThatIsNotListedIsRefused(t *testing.T) {
	configured(t, `{"models": ["tiny", "large"]}`)
	asked := request("POST", "/v1/chat/completions")
	equal(t, Decide(asked, caller), channel.MakeAnswerRefuse(types.Refusal{
		Status:  404,
		Code:    "model_not_found",
		Message: "the model `small` is not served by this channel",
	}))
	asked.Model = witTypes.Some("large")
	equal(t, Decide(asked, caller).Tag(), uint8(channel.Answer_Send))
	equal(t, Decide(without(asked), caller).Tag(), uint8(channel.Answer_Send))
}

func TestWrongSettingsAreRefusedByName(t *testing.T) {
	wrong := map[string]string{
		`{`:                   "settings: expected JSON",
		`[]`:                  "settings: expected an object",
		`null`:                "settings: expected an object",
		`{"prefx": "/v1"}`:    "settings: unknown setting `prefx` (known: prefix, models)",
		`{"prefix": 1}`:       "settings.prefix: expected a string",
		`{"prefix": null}`:    "settings.prefix: expected a string",
		`{"prefix": "v1"}`:    "settings.prefix: must begin with `/` and hold no white space",
		`{"prefix": "/v 1"}`:  "settings.prefix: must begin with `/` and hold no white space",
		`{"models": "small"}`: "settings.models: expected a list of strings",
		`{"models": [1]}`:     "settings.models: expected a list of strings",
		`{"models": [null]}`:  "settings.models: expected a list of strings",
		`{"models": null}`:    "settings.models: expected a list of strings",
	}
	for settings, message := range wrong {
		_, err := Configure(channel.ChannelConfig{Settings: settings}, func(string) {})
		if err == nil || err.Error() != message {
			t.Errorf("%s: is %v, wanted %s", settings, err, message)
		}
	}
}
