// The component is a library: the gateway calls what wit_exports exports.
package main

import _ "my_plugin/exports/wit_exports"

func main() {}
