use super::super::load;
use crate::plugin::dummies::{self, WIT};
use crate::plugin::engine::{Engine, EngineOptions};

/// What the component of a changed WIT is told.
fn refusal(change: impl FnOnce(String) -> String) -> String {
    let wit = change(WIT.to_owned());
    assert_ne!(wit, WIT, "nothing was changed");
    refused(&dummies::component(&wit, "channel-plugin"))
}

fn refused(component: &[u8]) -> String {
    let engine = Engine::new(EngineOptions { pool_instances: 4, ..EngineOptions::default() }).unwrap();
    load::<crate::config::Channel>(&engine, "p", component).err().expect("a refusal").to_string()
}

const DECIDE: &str = "decide: func(request: request, caller: caller) -> answer";

#[test]
fn a_component_of_the_interfaces_shape_is_taken() {
    let engine = Engine::new(EngineOptions { pool_instances: 4, ..EngineOptions::default() }).unwrap();
    load::<crate::config::Channel>(&engine, "p", &dummies::component(WIT, "channel-plugin")).unwrap();
    load::<crate::config::Channel>(&engine, "p", &dummies::with_parts("")).unwrap();
}

#[test]
fn a_function_with_other_parameters_or_another_result_is_told_by_both_signatures() {
    let fewer =
        refusal(|wit| wit.replace("decide: func(request: request, caller: caller)", "decide: func(request: request)"));
    for part in [
        "the function decide of aiproxy:plugin/channel@0.1.0 does not fit",
        &format!("expected `{DECIDE}`"),
        "found `decide: func(request: request) -> answer`",
        "it has 1 parameter, not 2",
        "wit/plugin.wit",
    ] {
        assert!(fewer.contains(part), "{part}: {fewer}");
    }
    let other = refusal(|wit| wit.replace("caller: caller) -> answer;", "caller: string) -> answer;"));
    assert!(other.contains("found `decide: func(request: request, caller: string) -> answer`"), "{other}");
    assert!(other.contains("the parameter `caller` is `string`, not `caller`"), "{other}");
    let result = refusal(|wit| wit.replace("caller: caller) -> answer;", "caller: caller) -> option<answer>;"));
    assert!(result.contains("the result is `option<answer>`, not `answer`"), "{result}");
    let none = refusal(|wit| wit.replace("caller: caller) -> answer;", "caller: caller);"));
    assert!(none.contains("found `decide: func(request: request, caller: caller)`: it has no result"), "{none}");
}

#[test]
fn a_missing_function_is_named_beside_those_that_are_there() {
    let missing = refusal(|wit| wit.replace("    decide: func(", "    decides: func("));
    for part in [&format!("expected `{DECIDE}`, found none"), "it is missing, and there is `configure`, `decides`"] {
        assert!(missing.contains(part), "{part}: {missing}");
    }
}

#[test]
fn a_record_of_another_shape_is_told_by_its_field_and_both_definitions() {
    let request_field = |wit: String| {
        wit.replace("        query: option<string>,\n        presented", "        query: string,\n        presented")
    };
    let other = refusal(request_field);
    for part in [
        "the field `query` of `request` is `string`, not `option<string>`",
        "expected `record request { transport: transport, method: string, path: string, query: option<string>, presented: presented,",
        "found `record request { transport: transport, method: string, path: string, query: string, presented: presented,",
    ] {
        assert!(other.contains(part), "{part}: {other}");
    }
    let lacking =
        refusal(|wit| wit.replace("record caller { id: string, tags: list<string> }", "record caller { id: string }"));
    assert!(lacking.contains("`caller` lacks the field `tags`"), "{lacking}");
    assert!(lacking.contains("found `record caller { id: string }`"), "{lacking}");
    let more = refusal(|wit| wit.replace("record caller { id: string,", "record caller { id: string, age: u8,"));
    assert!(more.contains("`caller` has a field `age`, which this gateway does not know"), "{more}");
    let order = refusal(|wit| wit.replace("id: string, tags: list<string>", "tags: list<string>, id: string"));
    assert!(order.contains("`caller` has its fields in another order"), "{order}");
}

#[test]
fn what_differs_deep_inside_is_found_where_it_is() {
    let plan = refusal(|wit| wit.replace("credentials: list<credential>", "credentials: list<string>"));
    assert!(plan.contains("the field `credentials` of `plan` is `list<string>`, not `list<credential>`"), "{plan}");
    let case =
        refusal(|wit| wit.replace("        query(string),\n        signed", "        query(u32),\n        signed"));
    assert!(case.contains("the case `query` of `placement` is `u32`, not `string`"), "{case}");
    let names = refusal(|wit| {
        wit.replace("enum reuse { never, same-caller, any-caller }", "enum reuse { never, same-caller }")
    });
    assert!(names.contains("`reuse` lacks the case `any-caller`"), "{names}");
    assert!(names.contains("the function configure"), "{names}");
}

#[test]
fn types_of_equal_structure_are_told_apart_by_name() {
    // `header-edit` and `body-edit` are the same but for their names.
    let plan = refusal(|wit| {
        wit.replace("        meters: option<u32>,\n        /// Names", "        meters: u32,\n        /// Names")
    });
    assert!(plan.contains("headers: list<header-edit>, body: list<body-edit>, credentials"), "{plan}");
    assert_eq!(plan.matches("list<body-edit>").count(), 2, "{plan}");
}

#[test]
fn an_imported_function_of_another_type_is_told_too() {
    let other = refusal(|wit| {
        wit.replace("log: func(level: level, message: string)", "log: func(level: level, message: string, at: u64)")
    });
    assert!(other.contains("the imported function log of aiproxy:plugin/log@0.1.0"), "{other}");
    assert!(other.contains("it has 3 parameters, not 2"), "{other}");
    let unknown = refusal(|wit| wit.replace("    log: func(", "    shout: func(message: string);\n    log: func("));
    assert!(unknown.contains("found `shout: func(message: string)`: this gateway has no such function"), "{unknown}");
}

#[test]
fn functions_without_any_type_of_the_interface_are_told_too() {
    let component = wat::parse_str(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func $f (canon lift (core func $i "f")))
            (instance $c (export "configure" (func $f)) (export "decide" (func $f)))
            (export "aiproxy:plugin/channel@0.1.0" (instance $c)))"#,
    );
    let refusal = refused(&component.unwrap());
    assert!(refusal.contains("found `configure: func()`: it has 0 parameters, not 1"), "{refusal}");
    assert!(!refusal.contains('\n'), "one line, for the log");
}
