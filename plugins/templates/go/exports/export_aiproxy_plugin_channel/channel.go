// Package export_aiproxy_plugin_channel is what the generated bindings call: its name and place are theirs. It joins
// the decisions in package plugin, which knows nothing of Wasm, to the gateway.
package export_aiproxy_plugin_channel

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	witTypes "go.bytecodealliance.org/pkg/wit/types"

	"my_plugin/imports/aiproxy_plugin_channel"
	"my_plugin/imports/aiproxy_plugin_log"
	"my_plugin/imports/aiproxy_plugin_types"
	"my_plugin/plugin"
)

// Go's collector asks what time it is, also when it starts while the gateway hands over arguments, which takes memory of the
// plugin. At that moment a component may not call anything, and is broken off. So the collector is switched off, and runs
// to its end within a call, where calling is allowed.
func init() { debug.SetGCPercent(-1) }

const collectAboveBytes = 2 << 20

var heap = []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}

func collect() {
	if metrics.Read(heap); heap[0].Value.Uint64() > collectAboveBytes {
		runtime.GC()
	}
}

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
	collect()
	return plugin.Decide(request, caller)
}
