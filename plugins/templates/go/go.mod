module my_plugin

go 1.27.1

require go.bytecodealliance.org/pkg v0.4.0

// What the generated bindings call. It comes with their generator, so that the two always fit.
replace go.bytecodealliance.org/pkg => ./build/crates/vendor/wit-bindgen-go/src/pkg
