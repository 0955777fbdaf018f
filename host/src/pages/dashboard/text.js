"use strict";
// Every text of the page, in English and Chinese, and which of the two is shown.
//
// It is the first part of the script: its directive makes all of it strict.

const TEXTS = {
  // The frame of the page.
  refresh_every: ["Refresh", "刷新"],
  refresh_now: ["Refresh now", "立即刷新"],
  off: ["off", "关闭"],
  theme: ["Theme", "主题"],
  theme_system: ["As the system", "跟随系统"],
  theme_light: ["Light", "浅色"],
  theme_dark: ["Dark", "深色"],
  language: ["Language", "语言"],
  window: ["Window", "时间范围"],
  window_1h: ["1 h", "1 小时"],
  window_24h: ["24 h", "24 小时"],
  window_7d: ["7 d", "7 天"],
  window_30d: ["30 d", "30 天"],
  channel: ["Channel", "通道"],
  key: ["Proxy key", "代理密钥"],
  all: ["all", "全部"],
  clear: ["Clear filters", "清除筛选"],
  updated: ["updated {time}", "更新于 {time}"],
  paused: ["refresh is off", "自动刷新已关闭"],
  loading: ["loading …", "加载中 …"],
  about: ["version {version} · up {uptime}", "版本 {version} · 已运行 {uptime}"],
  healthy: ["Running", "运行正常"],
  attention: ["Needs attention", "需要关注"],
  outdated: ["Not up to date", "数据未更新"],
  notes: ["Notes", "提示"],
  other: ["other", "其他"],
  none: ["–", "–"],

  // What keeps the figures from being refreshed.
  try_again: ["Try again", "重试"],
  reload: ["Reload", "重新加载"],
  old_figures: ["The figures below are from {time}.", "下方为 {time} 的数据。"],
  fails_network: ["The gateway does not answer.", "网关没有响应。"],
  fails_401: ["The admin token is needed: reload the page and enter it.", "需要管理令牌：请重新加载页面并输入。"],
  fails_403: ["This address may not read the statistics (403).", "此地址无权读取统计数据（403）。"],
  fails_status: ["The gateway answered with status {status}.", "网关返回状态码 {status}。"],
  fails_page: ["This page cannot show what the gateway sent: {error}", "页面无法显示网关返回的数据：{error}"],

  // Notes.
  note_channel: ["Channel {name} is unavailable.", "通道 {name} 不可用。"],
  note_plugin: ["Plugin {name} is {state}: {error}", "插件 {name} {state}：{error}"],
  note_pin: [
    "Plugin {name} is pinned to version {version} since {time}, until its file gets new content: {reason}",
    "插件 {name} 自 {time} 起固定在版本 {version}，直到其文件换成新内容：{reason}",
  ],
  note_trial: [
    "Channel {name}: version {version} of its plugin is on trial with {share}% of the requests: {tried}, of which {failed} failed or were refused; with the version before {old}, of which {old_failed}",
    "通道 {name}：其插件的版本 {version} 正在试运行，承担 {share}% 的请求：共 {tried} 次，其中失败或被拒绝 {failed} 次；原版本 {old} 次，其中 {old_failed} 次",
  ],
  note_file: ["{name} is {state}: {error}", "{name} {state}：{error}"],
  note_persistence: [
    "Statistics cannot be written: {error} A restart loses what has been counted since {time}.",
    "统计数据无法写入：{error} 若重启，将丢失 {time} 之后的统计。",
  ],
  note_folded: [
    "Exchanges counted under “other”: {count}. They are beyond the bound of {max} series, or named a model or endpoint that never worked.",
    "计入“其他”的请求：{count} 次。它们超出了 {max} 个序列的上限，或其模型、接口从未成功过。",
  ],
  note_usage: [
    "The gateway does not guess usage. Requests in this window measured in part only: {partial}; not at all: {missing}. The measured amounts do not include them.",
    "网关不猜测用量。此时间范围内仅部分计量的请求：{partial} 次；未能计量：{missing} 次；均不计入已计量的数值。",
  ],

  // Before the first request.
  welcome: ["No traffic yet", "尚无流量"],
  welcome_text: [
    "The gateway is up and waits for its first request. Send one with a proxy key, and it shows here:",
    "网关已就绪，正在等待第一个请求。使用代理密钥发送一个请求，数据便会显示在这里：",
  ],
  no_requests: ["No requests in this window", "此时间范围内没有请求"],
  no_values: ["Nothing measured in this window", "此时间范围内没有数据"],
  no_rows: ["Nothing in this window", "此时间范围内没有数据"],
  no_events: ["Nothing has happened", "没有事件"],

  unit_days: ["d", "天"],
  unit_hours: ["h", "小时"],
  unit_minutes: ["min", "分钟"],
  unit_seconds: ["s", "秒"],

  // Headline figures.
  figures: ["Headline figures", "关键指标"],
  requests: ["Requests", "请求数"],
  success_rate: ["Success rate", "成功率"],
  latency_p50: ["Latency p50", "延迟 p50"],
  latency_p99: ["Latency p99", "延迟 p99"],
  tokens_in: ["Tokens in", "输入 Token"],
  tokens_out: ["Tokens out", "输出 Token"],
  open_websockets: ["Open WebSockets", "打开的 WebSocket"],
  in_flight: ["In flight", "进行中"],
  failed_of: ["{failed} failed", "失败 {failed}"],
  rate_of: ["{rate} per second", "每秒 {rate}"],
  first_byte_of: ["first byte {value}", "首字节 {value}"],
  partial_of: ["{count} partial", "部分 {count}"],
  missing_of: ["{count} missing", "缺失 {count}"],
  all_measured: ["every request measured", "全部请求已计量"],
  messages_of: ["{in} in · {out} out", "收 {in} · 发 {out}"],
  connections_of: ["connections: {count}", "连接：{count}"],
  now: ["now", "当前"],
  trend_title: ["before: {value} ({window})", "之前：{value}（{window}）"],
  trend_new: ["new", "新增"],
  trend_points: ["{value} pp", "{value} pp"],

  // Charts.
  chart_requests: ["Requests by outcome", "请求（按结果）"],
  chart_latency: ["Latency", "延迟"],
  chart_tokens: ["Tokens by model", "Token（按模型）"],
  chart_websockets: ["Open WebSockets", "打开的 WebSocket"],
  latency_whole: ["Whole reply", "完整响应"],
  latency_first: ["First byte", "首字节"],
  per_step: ["per {step}", "每 {step}"],
  most_per_step: ["most at a time, per {step}", "每 {step}的最大值"],
  open: ["open", "打开"],
  chart_hint: [
    "{title}: {values}. Left and right arrow keys walk through time.",
    "{title}：{values}。左右方向键可沿时间移动。",
  ],
  legend: ["Shown series", "显示的序列"],

  // Tables.
  channels: ["Channels", "通道"],
  keys: ["Proxy keys", "代理密钥"],
  models: ["Models", "模型"],
  endpoints: ["Endpoints", "接口"],
  outcomes: ["Outcomes", "结果"],
  classes: ["Status classes", "状态码"],
  transports: ["Transports", "传输方式"],
  usage: ["Usage", "用量"],
  plugins: ["Plugins", "插件"],
  versions: ["Plugin versions", "插件版本"],
  files: ["Configuration files", "配置文件"],
  show_all: ["Show all {count}", "显示全部 {count} 项"],
  show_fewer: ["Show fewer", "收起"],
  filter_by: ["Filter by {name}", "按 {name} 筛选"],
  column_channel: ["Channel", "通道"],
  column_key: ["Proxy key", "代理密钥"],
  column_description: ["Description", "说明"],
  column_model: ["Model", "模型"],
  column_endpoint: ["Endpoint", "接口"],
  column_outcome: ["Outcome", "结果"],
  column_class: ["Status", "状态码"],
  column_transport: ["Transport", "传输方式"],
  column_amount: ["Amount", "计量项"],
  column_status: ["Status", "状态"],
  column_state: ["State", "状态"],
  column_in_flight: ["In flight", "进行中"],
  column_error_rate: ["Error rate", "错误率"],
  column_requests: ["Requests", "请求数"],
  column_share: ["Share", "占比"],
  column_success: ["Success", "成功率"],
  column_p50: ["p50", "p50"],
  column_p99: ["p99", "p99"],
  column_first: ["First byte", "首字节"],
  column_gateway: ["Gateway", "网关耗时"],
  column_in: ["Tokens in", "输入 Token"],
  column_out: ["Tokens out", "输出 Token"],
  column_other: ["Other amounts", "其他用量"],
  column_coverage: ["Usage known", "用量覆盖"],
  column_bytes_in: ["Bytes in", "接收"],
  column_bytes_out: ["Bytes out", "发送"],
  column_attempts: ["Attempts", "尝试"],
  column_measured: ["Measured", "已计量"],
  column_partial: ["Partial (at least)", "部分（至少）"],
  column_plugin: ["Plugin", "插件"],
  column_version: ["Version", "版本"],
  column_source: ["Source", "来源"],
  column_loaded: ["Loaded", "加载时间"],
  column_accepted: ["Accepted", "接受时间"],
  column_interface: ["Interface", "接口版本"],
  column_size: ["Size", "大小"],
  column_channels: ["Channels", "通道"],
  column_calls: ["Calls", "调用"],
  column_failures: ["Failed calls", "失败调用"],
  column_error: ["Last error", "最近错误"],
  column_file: ["File", "文件"],
  column_remarks: ["Error or warnings", "错误或警告"],
  title_error_rate: ["Lately, as failover sees it", "近期错误率，故障转移以此为据"],
  title_first: ["First byte, p50", "首字节 p50"],
  title_gateway: ["The gateway's own part, p50", "网关自身耗时 p50"],
  title_p50: ["Latency, p50", "延迟 p50"],
  title_p99: ["Latency, p99", "延迟 p99"],
  title_call_p99: ["Time a call takes, p99", "单次调用耗时 p99"],
  title_measured_tokens: ["Measured; partial and missing usage is not in it", "仅含已计量部分"],
  coverage_title: [
    "measured {measured}, partial {partial}, missing {missing}",
    "已计量 {measured}，部分 {partial}，缺失 {missing}",
  ],
  requests_row: ["requests", "请求"],
  inactive: ["inactive", "已停用"],

  // States, as the gateway names them.
  active: ["active", "正常"],
  disabled: ["disabled", "已禁用"],
  unavailable: ["unavailable", "不可用"],
  refused: ["refused", "被拒绝"],
  absent: ["absent", "不存在"],
  removed: ["removed", "已移除"],
  embedded: ["embedded", "内置"],
  kept: ["kept", "保留"],
  on_trial: ["on trial", "试运行"],
  pinned: ["pinned", "已固定"],
  file: ["file", "文件"],
  complete: ["complete", "完成"],
  failed: ["failed", "失败"],
  client_gone: ["client gone", "客户端断开"],
  upstream_broken: ["upstream broken", "上游中断"],
  gateway_closed: ["gateway closed", "网关关闭"],
  http: ["HTTP", "HTTP"],
  websocket: ["WebSocket", "WebSocket"],
  no_status: ["none", "无"],
  input: ["input tokens", "输入 Token"],
  output: ["output tokens", "输出 Token"],
  "cached-input": ["cached input tokens", "缓存输入 Token"],
  reasoning: ["reasoning tokens", "推理 Token"],
  characters: ["characters", "字符"],
  seconds: ["seconds", "秒"],
  images: ["images", "图片"],
  info: ["info", "信息"],
  warn: ["warning", "警告"],
  error: ["error", "错误"],
  start: ["start", "启动"],
  plugin: ["plugin", "插件"],
  exchange: ["exchange", "请求"],
  statistics: ["statistics", "统计"],
  event_reload: ["reload", "重载"],

  // The gateway as a whole.
  events: ["Events", "事件"],
  gateway: ["Gateway", "网关"],
  fact_total: ["Requests since {time}", "自 {time} 以来的请求"],
  fact_success: ["of which succeeded", "其中成功"],
  fact_average: ["Average duration", "平均耗时"],
  fact_last: ["Last request", "最近请求"],
  fact_keys: ["Proxy keys", "代理密钥"],
  fact_connections: ["Connections", "连接"],
  fact_generation: ["Configuration generation", "配置代次"],
  fact_sockets: ["WebSockets accepted", "已接受 WebSocket"],
  fact_messages: ["Messages in / out", "消息 收 / 发"],
  fact_closes: ["Close codes", "关闭码"],
  fact_memory: ["Memory", "内存"],
  fact_cpu: ["CPU time", "CPU 时间"],
  fact_open_files: ["Open files", "打开的文件"],
  fact_threads: ["Threads", "线程"],
  fact_series: ["Series", "序列"],
  persistence_ok: [
    "Statistics since {since} are kept over restarts; last written {written}, a crash loses at most {loss} s.",
    "统计数据自 {since} 起跨重启保留；最近写入 {written}，崩溃最多丢失 {loss} 秒。",
  ],
  persistence_failing: ["Statistics are not being written at the moment.", "统计数据目前无法写入。"],
  persistence_off: [
    "Statistics are kept in memory only, since {since}: a restart forgets them.",
    "统计数据自 {since} 起仅保存在内存中，重启后丢失。",
  ],
};

const LANGUAGES = ["en", "zh"];
const LOCALES = { en: "en-GB", zh: "zh-CN" };

/** One of LANGUAGES; set with `speak`. */
let language = "en";

/** The text named `name`, with `{x}` replaced by `values.x`. */
function text(name, values = {}) {
  const found = TEXTS[name]?.[LANGUAGES.indexOf(language)] ?? name;
  return found.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? String(values[key]) : whole));
}

/** For a word that came from the gateway: its text where there is one, else the word itself. */
function word(value) {
  return Object.hasOwn(TEXTS, value) ? text(value) : String(value);
}

/** Shows the page's fixed texts in `chosen`; what is made from figures is written anew by its owner. */
function speak(chosen) {
  language = chosen;
  document.documentElement.lang = LOCALES[chosen];
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = text(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-title]")) {
    node.title = text(node.dataset.tTitle);
    const labelled = node.querySelector("input") ?? node;
    labelled.setAttribute("aria-label", node.title);
  }
  for (const node of document.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", text(node.dataset.tLabel));
  }
}
