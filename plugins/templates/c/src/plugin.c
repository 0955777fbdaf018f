// What this plugin decides. Plain data in, plain data out: the gateway does the rest.
//
// The types are generated from wit/plugin.wit into build/bindings/channel_plugin.h. What the gateway hands over belongs
// to the function that is called, which frees it; what a function returns is on the heap, and the bindings free it once
// the gateway has read it.

#include <stdlib.h>
#include <string.h>

#include "cJSON.h"
#include "channel_plugin.h"
#include "settings.h"

typedef channel_plugin_string_t string;
typedef aiproxy_plugin_types_header_edit_t header_edit;

// What `configure` read; one instance serves one channel.
static struct settings settings;

static string text(const char *from) {
    string to;
    channel_plugin_string_dup(&to, from);
    return to;
}

// `len` zeroed elements of `size` bytes. Without memory the call ends, and the gateway throws this instance away.
static void *list(size_t len, size_t size) {
    void *elements = calloc(len, size);
    if (elements == NULL) {
        abort();
    }
    return elements;
}

// Three parts as one.
static string joined(const char *first, string second, const char *third) {
    size_t first_len = strlen(first), third_len = strlen(third);
    string to = {NULL, first_len + second.len + third_len};
    // The bindings do not free what is empty.
    if (to.len > 0) {
        to.ptr = list(to.len, 1);
        memcpy(to.ptr, first, first_len);
        memcpy(to.ptr + first_len, second.ptr, second.len);
        memcpy(to.ptr + first_len + second.len, third, third_len);
    }
    return to;
}

static string duplicate(string from) { return joined("", from, ""); }

static bool equals(string left, const char *right) {
    return left.len == strlen(right) && memcmp(left.ptr, right, left.len) == 0;
}

// A list of one string.
static channel_plugin_list_string_t only(const char *item) {
    channel_plugin_list_string_t items = {list(1, sizeof(string)), 1};
    items.ptr[0] = text(item);
    return items;
}

// A quantity that stands under the first of two pointers, or else under the second.
static aiproxy_plugin_types_meter_t meter(const char *name, const char *first, const char *second) {
    aiproxy_plugin_types_meter_t meter = {0};
    meter.name = text(name);
    meter.alternatives.len = 2;
    meter.alternatives.ptr = list(2, sizeof *meter.alternatives.ptr);
    meter.alternatives.ptr[0] = only(first);
    meter.alternatives.ptr[1] = only(second);
    meter.fold = AIPROXY_PLUGIN_TYPES_FOLD_LAST;
    return meter;
}

// Called once, first. False refuses this version of the plugin with the message in `error`.
bool exports_aiproxy_plugin_channel_configure(exports_aiproxy_plugin_channel_channel_config_t *config,
                                              aiproxy_plugin_types_profile_t *profile, string *error) {
    char *message = NULL;
    settings_free(&settings);
    bool is_read =
        settings_read(&settings, (const char *)config->settings.ptr, config->settings.len, &message);
    exports_aiproxy_plugin_channel_channel_config_free(config);
    if (!is_read) {
        *error = text(message);
        free(message);
        return false;
    }

    string prefix = text(settings.prefix_given);
    string line = joined("serving under ", prefix, "");
    aiproxy_plugin_log_log(AIPROXY_PLUGIN_LOG_LEVEL_INFO, &line);
    channel_plugin_string_free(&prefix);
    channel_plugin_string_free(&line);

    *profile = (aiproxy_plugin_types_profile_t){0};
    // The gateway shows the headers that are named here, and no others.
    profile->headers = only("x-tenant");
    profile->reads_model = true;
    profile->meters.len = 1;
    profile->meters.ptr = list(1, sizeof *profile->meters.ptr);
    aiproxy_plugin_types_list_meter_t *meters = &profile->meters.ptr[0];
    meters->len = 2;
    meters->ptr = list(2, sizeof *meters->ptr);
    meters->ptr[0] = meter("input", "/usage/prompt_tokens", "/usage/input_tokens");
    meters->ptr[1] = meter("output", "/usage/completion_tokens", "/usage/output_tokens");
    // `decide` depends on its arguments alone, the caller's id among them.
    profile->reuse = AIPROXY_PLUGIN_TYPES_REUSE_SAME_CALLER;
    return true;
}

static header_edit set_header(const char *name, string value) {
    header_edit edit = {.tag = AIPROXY_PLUGIN_TYPES_HEADER_EDIT_SET};
    edit.val.set.f0 = text(name);
    edit.val.set.f1 = duplicate(value);
    return edit;
}

static aiproxy_plugin_types_list_header_edit_t header_edits(const aiproxy_plugin_types_request_t *request,
                                                            string caller_id) {
    aiproxy_plugin_types_list_header_edit_t edits = {list(3, sizeof(header_edit)), 2};
    edits.ptr[0] = set_header("x-client", caller_id);
    edits.ptr[1] = (header_edit){.tag = AIPROXY_PLUGIN_TYPES_HEADER_EDIT_REMOVE};
    edits.ptr[1].val.remove = text("x-tenant");
    for (size_t i = 0; i < request->headers.len; i++) {
        const aiproxy_plugin_types_field_t *header = &request->headers.ptr[i];
        if (equals(header->f0, "x-tenant")) {
            edits.ptr[edits.len++] = set_header("x-organization", header->f1);
            break;
        }
    }
    return edits;
}

// As JSON.
static string quoted(string value) {
    char *terminated = list(value.len + 1, 1);
    memcpy(terminated, value.ptr, value.len);
    cJSON *item = cJSON_CreateString(terminated);
    char *json = cJSON_PrintUnformatted(item);
    if (json == NULL) {
        abort();
    }
    string to = text(json);
    cJSON_free(json);
    cJSON_Delete(item);
    free(terminated);
    return to;
}

static aiproxy_plugin_types_plan_t plan(const aiproxy_plugin_types_request_t *request, string caller_id) {
    // Zeroed: no endpoint, no model, no options.
    aiproxy_plugin_types_plan_t plan = {0};
    size_t version_len = strlen("/v1");
    string rest = {request->path.ptr + version_len, request->path.len - version_len};
    plan.path = joined(settings.prefix, rest, "");
    plan.query.is_some = request->query.is_some;
    if (request->query.is_some) {
        plan.query.val = duplicate(request->query.val);
    }
    plan.headers = header_edits(request, caller_id);
    // The model stands in a JSON body, or in a form: that the gateway refuses to edit, with 415.
    if (equals(request->method, "POST") && request->model.is_some) {
        plan.body.len = 1;
        plan.body.ptr = list(1, sizeof *plan.body.ptr);
        plan.body.ptr[0].tag = AIPROXY_PLUGIN_TYPES_BODY_EDIT_SET_IF_ABSENT;
        plan.body.ptr[0].val.set_if_absent.f0 = text("/user");
        plan.body.ptr[0].val.set_if_absent.f1 = quoted(caller_id);
    }
    // The gateway puts the channel's key there; the plugin never sees it.
    plan.credentials.len = 1;
    plan.credentials.ptr = list(1, sizeof *plan.credentials.ptr);
    plan.credentials.ptr[0].secret = text("key");
    plan.credentials.ptr[0].place.tag = AIPROXY_PLUGIN_TYPES_PLACEMENT_AUTHORIZATION;
    plan.credentials.ptr[0].place.val.authorization = text("Bearer");
    plan.meters = (channel_plugin_option_u32_t){.is_some = true, .val = 0};
    return plan;
}

static aiproxy_plugin_types_refusal_t model_not_found(string model) {
    aiproxy_plugin_types_refusal_t refusal = {.status = 404, .code = text("model_not_found")};
    refusal.message = joined("the model `", model, "` is not served by this channel");
    return refusal;
}

// Called for every request on the channel, but for those whose answer is reused.
void exports_aiproxy_plugin_channel_decide(aiproxy_plugin_types_request_t *request,
                                           aiproxy_plugin_types_caller_t *caller,
                                           exports_aiproxy_plugin_channel_answer_t *answer) {
    const string *model = &request->model.val;
    if (request->path.len < strlen("/v1/") || memcmp(request->path.ptr, "/v1/", strlen("/v1/")) != 0) {
        answer->tag = EXPORTS_AIPROXY_PLUGIN_CHANNEL_ANSWER_DECLINE;
    } else if (request->model.is_some && !settings_serve(&settings, (const char *)model->ptr, model->len)) {
        answer->tag = EXPORTS_AIPROXY_PLUGIN_CHANNEL_ANSWER_REFUSE;
        answer->val.refuse = model_not_found(*model);
    } else {
        answer->tag = EXPORTS_AIPROXY_PLUGIN_CHANNEL_ANSWER_SEND;
        answer->val.send = plan(request, caller->id);
    }
    aiproxy_plugin_types_request_free(request);
    aiproxy_plugin_types_caller_free(caller);
}
