// The decisions, natively: no Wasm and no gateway. The functions are called as the bindings call them, and the bindings'
// own functions free what they are given and what they return, so that the address sanitizer sees what would leak.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel_plugin.h"

typedef channel_plugin_string_t string;
typedef aiproxy_plugin_types_request_t request_t;
typedef exports_aiproxy_plugin_channel_answer_t answer_t;

static int failures;
static char logged[100];

#define CHECK(holds)                                                     \
    do {                                                                 \
        if (!(holds)) {                                                  \
            failures++;                                                  \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #holds);   \
        }                                                                \
    } while (0)

// What only a component has: the import, and the description of its interfaces.
void __wasm_import_aiproxy_plugin_log_log(int32_t level, uint8_t *message, size_t len) {
    CHECK(level == AIPROXY_PLUGIN_LOG_LEVEL_INFO);
    snprintf(logged, sizeof logged, "%.*s", (int)len, (const char *)message);
}
void __component_type_object_force_link_channel_plugin(void) {}

static string text(const char *from) {
    string to;
    channel_plugin_string_dup(&to, from);
    return to;
}

static bool is(string value, const char *wanted) {
    bool equal = value.len == strlen(wanted) && (value.len == 0 || memcmp(value.ptr, wanted, value.len) == 0);
    if (!equal) {
        printf("is \"%.*s\", not \"%s\"\n", (int)value.len, (const char *)value.ptr, wanted);
    }
    return equal;
}

static bool configure(const char *settings, aiproxy_plugin_types_profile_t *profile, string *error) {
    exports_aiproxy_plugin_channel_channel_config_t config = {.id = text("c"), .name = text("C")};
    config.settings = text(settings);
    return exports_aiproxy_plugin_channel_configure(&config, profile, error);
}

static void configured(const char *settings) {
    aiproxy_plugin_types_profile_t profile;
    string error;
    if (!configure(settings, &profile, &error)) {
        printf("%s: %.*s\n", settings, (int)error.len, (const char *)error.ptr);
        exit(1);
    }
    aiproxy_plugin_types_profile_free(&profile);
}

static bool is_refused(const char *settings, const char *message) {
    aiproxy_plugin_types_profile_t profile;
    string error;
    if (configure(settings, &profile, &error)) {
        printf("%s: taken\n", settings);
        aiproxy_plugin_types_profile_free(&profile);
        return false;
    }
    bool as_wanted = is(error, message);
    channel_plugin_string_free(&error);
    return as_wanted;
}

// A request as the gateway describes it; `model` may be null.
static request_t request(const char *method, const char *path, const char *model) {
    request_t request = {.method = text(method), .path = text(path)};
    request.presented.tag = AIPROXY_PLUGIN_TYPES_PRESENTED_AUTHORIZATION;
    request.presented.val.authorization = text("bearer");
    if (model != NULL) {
        request.model.is_some = true;
        request.model.val = text(model);
    }
    return request;
}

static answer_t decide(request_t request) {
    aiproxy_plugin_types_caller_t caller = {.id = text("alice")};
    answer_t answer;
    exports_aiproxy_plugin_channel_decide(&request, &caller, &answer);
    return answer;
}

static uint8_t decided(request_t request) {
    answer_t answer = decide(request);
    uint8_t tag = answer.tag;
    exports_aiproxy_plugin_channel_answer_free(&answer);
    return tag;
}

static size_t body_edits(request_t request) {
    answer_t answer = decide(request);
    size_t edits = answer.val.send.body.len;
    exports_aiproxy_plugin_channel_answer_free(&answer);
    return edits;
}

static void an_empty_configuration_serves_everything_under_v1(void) {
    aiproxy_plugin_types_profile_t profile;
    string error;
    CHECK(configure("", &profile, &error));
    CHECK(strcmp(logged, "serving under /v1") == 0);
    CHECK(profile.headers.len == 1 && is(profile.headers.ptr[0], "x-tenant"));
    CHECK(profile.reads_model);
    CHECK(profile.reuse == AIPROXY_PLUGIN_TYPES_REUSE_SAME_CALLER);
    CHECK(profile.meters.len == 1 && profile.meters.ptr[0].len == 2);
    CHECK(is(profile.meters.ptr[0].ptr[1].alternatives.ptr[1].ptr[0], "/usage/output_tokens"));
    aiproxy_plugin_types_profile_free(&profile);
}

static void a_request_is_sent_with_the_callers_name_and_the_channels_key(void) {
    configured("{\"prefix\": \"/api/\", \"_note\": 1}");
    request_t asked = request("POST", "/v1/chat/completions", "small");
    asked.query.is_some = true;
    asked.query.val = text("a=1&b");
    answer_t answer = decide(asked);
    const aiproxy_plugin_types_plan_t *plan = &answer.val.send;
    CHECK(answer.tag == EXPORTS_AIPROXY_PLUGIN_CHANNEL_ANSWER_SEND);
    CHECK(is(plan->path, "/api/chat/completions"));
    CHECK(plan->query.is_some && is(plan->query.val, "a=1&b"));
    CHECK(plan->headers.len == 2);
    CHECK(plan->headers.ptr[0].tag == AIPROXY_PLUGIN_TYPES_HEADER_EDIT_SET);
    CHECK(is(plan->headers.ptr[0].val.set.f0, "x-client") && is(plan->headers.ptr[0].val.set.f1, "alice"));
    CHECK(plan->headers.ptr[1].tag == AIPROXY_PLUGIN_TYPES_HEADER_EDIT_REMOVE);
    CHECK(is(plan->headers.ptr[1].val.remove, "x-tenant"));
    CHECK(plan->body.len == 1 && plan->body.ptr[0].tag == AIPROXY_PLUGIN_TYPES_BODY_EDIT_SET_IF_ABSENT);
    CHECK(is(plan->body.ptr[0].val.set_if_absent.f0, "/user"));
    CHECK(is(plan->body.ptr[0].val.set_if_absent.f1, "\"alice\""));
    CHECK(plan->credentials.len == 1 && is(plan->credentials.ptr[0].secret, "key"));
    CHECK(plan->credentials.ptr[0].place.tag == AIPROXY_PLUGIN_TYPES_PLACEMENT_AUTHORIZATION);
    CHECK(is(plan->credentials.ptr[0].place.val.authorization, "Bearer"));
    CHECK(!plan->endpoint.is_some && !plan->model.is_some && plan->options.len == 0);
    CHECK(plan->meters.is_some && plan->meters.val == 0);
    exports_aiproxy_plugin_channel_answer_free(&answer);
}

static void the_first_tenant_becomes_the_organization(void) {
    configured("{}");
    request_t asked = request("POST", "/v1/chat/completions", "small");
    asked.headers.len = 2;
    asked.headers.ptr = calloc(2, sizeof *asked.headers.ptr);
    asked.headers.ptr[0] = (aiproxy_plugin_types_field_t){text("x-tenant"), text("one")};
    asked.headers.ptr[1] = (aiproxy_plugin_types_field_t){text("x-tenant"), text("two")};
    answer_t answer = decide(asked);
    const aiproxy_plugin_types_list_header_edit_t *headers = &answer.val.send.headers;
    CHECK(headers->len == 3);
    CHECK(is(headers->ptr[2].val.set.f0, "x-organization") && is(headers->ptr[2].val.set.f1, "one"));
    exports_aiproxy_plugin_channel_answer_free(&answer);
}

static void a_body_is_edited_only_where_there_is_one_with_a_model(void) {
    configured("{}");
    CHECK(body_edits(request("POST", "/v1/models", "small")) == 1);
    CHECK(body_edits(request("GET", "/v1/models", "small")) == 0);
    CHECK(body_edits(request("POST", "/v1/models", NULL)) == 0);
}

static void a_path_outside_v1_is_declined(void) {
    configured("{}");
    const char *paths[] = {"/", "/v1", "/v10/models", "/other/v1/models"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        CHECK(decided(request("POST", paths[i], "small")) == EXPORTS_AIPROXY_PLUGIN_CHANNEL_ANSWER_DECLINE);
    }
}

static void a_model_that_is_not_listed_is_refused(void) {
    configured("{\"models\": [\"small\", \"large\"]}");
    answer_t answer = decide(request("POST", "/v1/chat/completions", "huge"));
    CHECK(answer.tag == EXPORTS_AIPROXY_PLUGIN_CHANNEL_ANSWER_REFUSE);
    CHECK(answer.val.refuse.status == 404);
    CHECK(is(answer.val.refuse.code, "model_not_found"));
    CHECK(is(answer.val.refuse.message, "the model `huge` is not served by this channel"));
    exports_aiproxy_plugin_channel_answer_free(&answer);
    CHECK(decided(request("POST", "/v1/x", "small")) == EXPORTS_AIPROXY_PLUGIN_CHANNEL_ANSWER_SEND);
    CHECK(decided(request("POST", "/v1/x", NULL)) == EXPORTS_AIPROXY_PLUGIN_CHANNEL_ANSWER_SEND);
}

static void wrong_settings_are_refused_by_name(void) {
    CHECK(is_refused("{", "settings: expected JSON"));
    CHECK(is_refused("{} {}", "settings: expected JSON"));
    CHECK(is_refused("[]", "settings: expected an object"));
    CHECK(is_refused("{\"prefx\": \"/v1\"}", "settings: unknown setting `prefx` (known: prefix, models)"));
    CHECK(is_refused("{\"prefix\": 1}", "settings.prefix: expected a string"));
    CHECK(is_refused("{\"prefix\": null}", "settings.prefix: expected a string"));
    CHECK(is_refused("{\"prefix\": \"v1\"}", "settings.prefix: must begin with `/` and hold no white space"));
    CHECK(is_refused("{\"prefix\": \"/v 1\"}", "settings.prefix: must begin with `/` and hold no white space"));
    CHECK(is_refused("{\"models\": \"small\"}", "settings.models: expected a list of strings"));
    CHECK(is_refused("{\"models\": [1]}", "settings.models: expected a list of strings"));
    CHECK(is_refused("{\"models\": null}", "settings.models: expected a list of strings"));
}

int main(void) {
    an_empty_configuration_serves_everything_under_v1();
    a_request_is_sent_with_the_callers_name_and_the_channels_key();
    the_first_tenant_becomes_the_organization();
    a_body_is_edited_only_where_there_is_one_with_a_model();
    a_path_outside_v1_is_declined();
    a_model_that_is_not_listed_is_refused();
    wrong_settings_are_refused_by_name();
    // What the last `configure` kept stays referenced, and so is no leak.
    printf("7 tests, %d failures\n", failures);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
