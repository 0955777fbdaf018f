// Package export_aiproxy_plugin_channel is what the generated bindings call: its name and place are theirs. It joins
// the decisions in package plugin, which knows nothing of Wasm, to the gateway.
package export_aiproxy_plugin_channel

import (
	"runtime"
	"runtime/debug"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	"my_plugin/imports/aiproxy_plugin_channel"
	"my_plugin/imports/aiproxy_plugin_log"
	"my_plugin/imports/aiproxy_plugin_types"
	"my_plugin/plugin"
)

// Go's collector asks for the time of day, also when it starts while the gateway hands over arguments, which needs
// memory of the plugin; and at that moment a component may not call anything, so that it would be broken off. So the
// collector is switched off, and called where calls are allowed.
func init() { debug.SetGCPercent(-1) }

// Some hundred kilobytes of garbage.
const callsPerCollection = 200

var calls int

func Configure(config aiproxy_plugin_channel.ChannelConfig) witTypes.Result[aiproxy_plugin_types.Profile, string] {
	profile, err := plugin.Configure(config, func(line string) {
		aiproxy_plugin_log.Log(aiproxy_plugin_log.Level_Info, line)
	})
	if err != nil {
		return witTypes.Err[aiproxy_plugin_types.Profile, string](err.Error())
	}
	return witTypes.Ok[aiproxy_plugin_types.Profile, string](profile)
}

func Decide(request aiproxy_plugin_types.Request, caller aiproxy_plugin_types.Caller) aiproxy_plugin_channel.Answer {
	calls++
	if calls%callsPerCollection == 0 {
		runtime.GC()
	}
	return plugin.Decide(request, caller)
}
