// What the page says, in English and in Russian. What models wrote stays as it is.

const TEXTS = {
  en: {
    skip: "To the question", conversations: "Conversations", conversation: "Conversation", close: "Close", new: "New conversation",
    search: "Search what was said", seeds: "Seeds", notes: "Memory", export: "Export", report: "Report", language: "Русский",
    theme: "Light or dark", theme_auto: "Colours as the system has them", theme_light: "Light colours", theme_dark: "Dark colours",
    shortcuts: "Shortcuts", ask: "Ask anything", pin: "Who answers", auto: "Whoever is nearest", base: "base", compare: "Compare",
    send: "Send", stop: "Stop", composer_hint: "Enter sends, Shift+Enter begins a line, ? shows all keys",
    why: "Why", why_who: "Why {title}?", again: "Again", branch: "Branch", copy: "Copy", copied: "Copied", edit: "Edit", pin_this: "Pin",
    unpin: "Unpin", you: "You", answers: "{title} answers", answered: "{title} has answered: {text}", stopped: "stopped here",
    cut: "cut: an answer ends here at the latest", lost: "The connection broke. What was said is kept on the server.",
    gone: "The server does not answer. Is rostok serve still running?", retry: "Try again", thinking: "finding who knows …",
    empty_title: "What would you like to know?", empty_text: {
      one: "{n} expert and the base listen. The one whose thought is nearest answers.",
      other: "{n} experts and the base listen. The one whose thought is nearest answers." },
    starter: "What does the {node} lead to?", none_yet: "Nothing was said yet.", nothing_found: "Nothing found.",
    rename: "Rename", delete: "Delete", really: "Really?", today: "today", turns: { one: "{n} turn", other: "{n} turns" },
    editing: "You are asking this again in other words.", editing_branch: "You are asking an earlier question anew; this becomes a conversation of its own.",
    cancel: "Cancel", pinned_state: "{title} answers everything until you unpin.",
    near: "The nearest text of this seed lies at {score}; experts speak from {threshold} on.",
    far: "The nearest text lies at {score}, below {threshold}: this belongs to no expert, so the base answers.",
    near_evidence: "With a probability of {score} this belongs to an expert; they speak from {threshold} on.",
    far_evidence: "With a probability of {score} this belongs to an expert; below {threshold} the base answers.",
    near_other: "The strategy “{strategy}” gives {score}; experts speak from {threshold} on.",
    far_other: "The strategy “{strategy}” gives {score}, below {threshold}: this belongs to no expert, so the base answers.",
    by_hand: "You chose who answers. The router’s opinion stands below.",
    votes: "Votes", map: "Among the seeds", map_text: "The question among the seeds, on the two main axes of the texts’ meanings. Nearest seed: {title}.",
    nearest: "Nearest texts", read: "What it has read", read_none: "Nothing was read for this answer.", cost: "What it cost",
    read_of: "{source} · {score}", tokens: { one: "{n} token", other: "{n} tokens" }, prompt_tokens: "{n} read", seconds: "{n} s",
    together: "Together: {titles}", question_here: "the question", seed_kind: "seed", node_kind: "thought", page_kind: "page",
    shown_by: "by {author}", held_out: "held out of training", path: "The path", clashes: "Contradictions", formula: "Formula",
    pages: "Pages", more: "More pages", back: "All seeds", author_model: "the model", author_code: "code", serving: "answers", silent: "has no expert",
    notes_text: "What you ask to be remembered is read again in every conversation, as a quotation. What a model says is never remembered as a fact.",
    notes_add: "Remember", notes_label: "Something to remember", notes_none: "Nothing is remembered yet.", forget: "Forget",
    forget_text: "Forget words that you have said", forget_hint: "words, in any conversation", forgotten: { one: "{n} text erased.", other: "{n} texts erased." },
    forget_find: "Find", forget_found: "This would be erased for good, whole turns with their answers:",
    forget_nothing: "No note and no turn holds these words; titles and logs may.", forget_these: { one: "Erase this {n}", other: "Erase these {n}" },
    export_this: "This conversation", export_all: "All conversations", markdown: "Markdown, to read", jsonl: "JSON lines, for programs",
    compare_text: "The base and the nearest experts on the same question. None of this is kept.", compare_what: "Write a question first, or ask one.",
    keys_on: "Keys without Ctrl work while you are not typing",
    k_ask: "to the question", k_send: "send", k_line: "a new line", k_stop: "stop the answer, or close", k_new: "a new conversation", k_search: "search",
    k_why: "why the last answer", k_compare: "compare", k_again: "answer again", k_edit: "edit the last question", k_branch: "branch after the last answer",
    k_pin: "who answers", k_move: "to the next or previous answer", k_seeds: "seeds and pages", k_notes: "memory", k_export: "export", k_report: "the report", k_theme: "light or dark", k_help: "these keys",
    lock_title: "This page is locked", lock_text: "Open the address that “rostok serve” has printed; it ends in a token that is made anew at every start. Or paste the token, or the key.",
    lock_label: "Token or key", lock_go: "Unlock", lock_wrong: "That is not it.", skipped: "Left out", minutes: "{n} min", hours: "{n} h", days: "{n} d", now: "now",
    base_role: "answers what is near to no expert", note_spoke: "Note: {note}.", untitled: "New conversation", retitle: "Title",
  },
  ru: {
    skip: "К вопросу", conversations: "Беседы", conversation: "Беседа", close: "Закрыть", new: "Новая беседа",
    search: "Искать в сказанном", seeds: "Семена", notes: "Память", export: "Выгрузить", report: "Отчёт", language: "English",
    theme: "Светлое или тёмное", theme_auto: "Цвета как в системе", theme_light: "Светлые цвета", theme_dark: "Тёмные цвета",
    shortcuts: "Клавиши", ask: "Спросите о чём угодно", pin: "Кто отвечает", auto: "Кто ближе всех", base: "основа", compare: "Сравнить",
    send: "Отправить", stop: "Остановить", composer_hint: "Enter отправляет, Shift+Enter начинает строку, ? показывает все клавиши",
    why: "Почему", why_who: "Почему {title}?", again: "Ещё раз", branch: "Ветвь", copy: "Копировать", copied: "Скопировано", edit: "Изменить", pin_this: "Закрепить",
    unpin: "Открепить", you: "Вы", answers: "Отвечает {title}", answered: "Ответ дал {title}: {text}", stopped: "здесь остановлено",
    cut: "обрезано: длиннее ответ не бывает", lost: "Связь прервалась. Сказанное сохранено на сервере.",
    gone: "Сервер не отвечает. Работает ли ещё rostok serve?", retry: "Повторить", thinking: "ищем, кто знает …",
    empty_title: "Что вы хотите узнать?", empty_text: {
      one: "Слушают {n} эксперт и основа. Отвечает тот, чья мысль ближе.",
      few: "Слушают {n} эксперта и основа. Отвечает тот, чья мысль ближе.",
      other: "Слушают {n} экспертов и основа. Отвечает тот, чья мысль ближе." },
    starter: "What does the {node} lead to?", none_yet: "Пока ничего не сказано.", nothing_found: "Ничего не найдено.",
    rename: "Назвать", delete: "Удалить", really: "Точно?", today: "сегодня", turns: { one: "{n} вопрос", few: "{n} вопроса", other: "{n} вопросов" },
    editing: "Вы задаёте этот вопрос иначе.", editing_branch: "Вы заново задаёте прежний вопрос; из этого выйдет отдельная беседа.",
    cancel: "Отмена", pinned_state: "Теперь на всё отвечает {title}, пока вы не открепите.",
    near: "Ближайший текст этого семени — {score}; эксперты говорят, начиная с {threshold}.",
    far: "Ближайший текст — {score}, это ниже {threshold}: вопрос ничей, поэтому отвечает основа.",
    near_evidence: "С вероятностью {score} вопрос принадлежит эксперту; они говорят, начиная с {threshold}.",
    far_evidence: "С вероятностью {score} вопрос принадлежит эксперту; ниже {threshold} отвечает основа.",
    near_other: "Стратегия «{strategy}» даёт {score}; эксперты говорят, начиная с {threshold}.",
    far_other: "Стратегия «{strategy}» даёт {score}, это ниже {threshold}: вопрос ничей, поэтому отвечает основа.",
    by_hand: "Вы выбрали, кто отвечает. Мнение маршрутизатора — ниже.",
    votes: "Голоса", map: "Среди семян", map_text: "Вопрос среди семян, на двух главных осях смысла текстов. Ближайшее семя: {title}.",
    nearest: "Ближайшие тексты", read: "Что прочитано", read_none: "Для этого ответа ничего не читалось.", cost: "Чего это стоило",
    read_of: "{source} · {score}", tokens: { one: "{n} токен", few: "{n} токена", other: "{n} токенов" }, prompt_tokens: "прочитано {n}", seconds: "{n} с",
    together: "Вместе: {titles}", question_here: "вопрос", seed_kind: "семя", node_kind: "мысль", page_kind: "страница",
    shown_by: "автор: {author}", held_out: "не для обучения", path: "Путь", clashes: "Противоречия", formula: "Формула",
    pages: "Страницы", more: "Ещё страницы", back: "Все семена", author_model: "модель", author_code: "код", serving: "отвечает", silent: "без эксперта",
    notes_text: "То, что вы просите запомнить, читается снова в каждой беседе, как цитата. Слова модели никогда не запоминаются как факт.",
    notes_add: "Запомнить", notes_label: "Что запомнить", notes_none: "Пока ничего не запомнено.", forget: "Забыть",
    forget_text: "Забыть сказанные вами слова", forget_hint: "слова, в любой беседе", forgotten: { one: "Стёрт {n} текст.", few: "Стёрто {n} текста.", other: "Стёрто {n} текстов." },
    forget_find: "Найти", forget_found: "Это будет стёрто навсегда, реплики — целиком с ответами:",
    forget_nothing: "Этих слов нет ни в заметках, ни в репликах; они могут быть в названиях и журналах.", forget_these: { one: "Стереть {n} текст", few: "Стереть {n} текста", other: "Стереть {n} текстов" },
    export_this: "Эта беседа", export_all: "Все беседы", markdown: "Markdown, чтобы читать", jsonl: "JSON lines, для программ",
    compare_text: "Основа и ближайшие эксперты об одном и том же. Ничего из этого не сохраняется.", compare_what: "Сначала напишите или задайте вопрос.",
    keys_on: "Клавиши без Ctrl действуют, пока вы не пишете",
    k_ask: "к вопросу", k_send: "отправить", k_line: "новая строка", k_stop: "остановить ответ или закрыть", k_new: "новая беседа", k_search: "искать",
    k_why: "почему таков последний ответ", k_compare: "сравнить", k_again: "ответить ещё раз", k_edit: "изменить последний вопрос", k_branch: "ветвь после последнего ответа",
    k_pin: "кто отвечает", k_move: "к следующему или прежнему ответу", k_seeds: "семена и страницы", k_notes: "память", k_export: "выгрузить", k_report: "отчёт", k_theme: "светлое или тёмное", k_help: "эти клавиши",
    lock_title: "Страница закрыта", lock_text: "Откройте адрес, который напечатал «rostok serve»; в конце его — токен, новый при каждом запуске. Или вставьте токен или ключ.",
    lock_label: "Токен или ключ", lock_go: "Открыть", lock_wrong: "Это не он.", skipped: "Не участвуют", minutes: "{n} мин", hours: "{n} ч", days: "{n} д", now: "сейчас",
    base_role: "отвечает на то, что никому не близко", note_spoke: "Замечание: {note}.", untitled: "Новая беседа", retitle: "Название",
  },
};

const chosen = localStorage.getItem("rostok.language");
let language = chosen in TEXTS ? chosen : navigator.language?.startsWith("ru") ? "ru" : "en";  // until the run says its own
export const current = () => language;

/** Take the run's language, unless this person has chosen one. */
export function settle(wanted) {
  if (!(localStorage.getItem("rostok.language") in TEXTS) && wanted in TEXTS) language = wanted;
}

export function turn() {
  language = language === "en" ? "ru" : "en";
  localStorage.setItem("rostok.language", language);
}

/** A text with its {values}; of a count, the form that the number `n` needs. */
export function t(key, values = {}) {
  let text = TEXTS[language][key] ?? key;
  if (typeof text === "object") text = text[new Intl.PluralRules(language).select(values.n)] ?? text.other;
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export const number = (value, digits = 2) =>
  new Intl.NumberFormat(language, { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/** How long ago, in one word. */
export function ago(seconds) {
  const minutes = (Date.now() / 1000 - seconds) / 60;
  if (minutes < 1) return t("now");
  if (minutes < 60) return t("minutes", { n: Math.round(minutes) });
  if (minutes < 60 * 24) return t("hours", { n: Math.round(minutes / 60) });
  return t("days", { n: Math.round(minutes / 60 / 24) });
}

/** Put the texts into what index.html has marked. */
export function translate(root = document) {
  document.documentElement.lang = language;
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", t(node.dataset.label));
    if (node.matches("button")) node.title = t(node.dataset.label);
  }
  for (const node of root.querySelectorAll("[data-hint]")) node.placeholder = t(node.dataset.hint);
}

/** Texts that one of the languages lacks; for the tests. */
export const missing = () => Object.values(TEXTS).flatMap((one) => Object.values(TEXTS).flatMap((other) =>
  Object.keys(other).filter((key) => !(key in one))));
