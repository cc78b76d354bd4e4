"""Every word of the terminal's interface, by language. What models and people say keeps its own.

Sentences of errors are in English everywhere, as in the rest of Rostok.
"""

from __future__ import annotations

from rostok.errors import ConfigError

_ENGLISH = {
    "waking": "waking the experts",
    "experts_one": "{count} expert and the base listen; /help says more.",
    "experts_many": "{count} experts and the base listen; /help says more.",
    "goes_on": "“{title}” goes on after {turns} turns.",
    "nothing_kept": "Nothing of this conversation is kept.",
    "you": "You",
    "note": "Note: {text}",
    "cut": "(cut: an answer ends here at the latest)",
    "stopped": "(stopped; what was said is kept)",
    "stopped_unkept": "(stopped)",
    "remembered": "read {score:.2f}  {source}: {text}",
    "cost": "{prompt} tokens read, {tokens} written, in {seconds:.1f} s",
    "spoke": ", {titles} spoke",
    "no_command": "There is no command {name}. /help names them all.",
    "no_command_near": "There is no command {name}; did you mean {near}?",
    "ask": "Ask something, or /quit.",
    "quit_leaves": "/quit leaves.",
    "nothing_asked": "Nothing was asked yet.",
    "why_expert": "{title}: {score:.2f} by “{strategy}”; experts speak from {threshold:.2f} on.",
    "why_pinned": "{title} was pinned. The router had {score:.2f} by “{strategy}”; experts speak from {threshold:.2f} on.",
    "why_base": "base: no expert has more than {score:.2f} by “{strategy}”, and they speak from {threshold:.2f} on.",
    "why_unknown": "Why {title} spoke was not kept by the Rostok of that time.",
    "votes": "{share:.0%} of the votes: {title}",
    "base_answers": "base  (answers what is near to none of them)",
    "pinned": "{title} answers from now on; /unpin lets the router choose again.",
    "pin_usage": "Whom? /pin NAME: an expert's title or id, or base.",
    "unpinned": "The router chooses again.",
    "remember_usage": "What? For example: /remember My daughter is called Anna.",
    "noted": "Kept as {id}, for every conversation. /forget {id} erases it.",
    "no_notes": "There are no notes. /remember keeps one.",
    "forget_usage": "What? The id of a note, or a word: every note and turn that holds it is erased for good.",
    "forget_nothing": "Nothing of that is kept.",
    "forget_ask": "Erase this for good? [y/N] ",
    "forget_yes": "y yes",
    "forgotten": "Erased for good: {count}.",
    "kept_on": "Nothing was erased.",
    "undone": "The last turn is gone.",
    "new": "A new conversation.",
    "save_usage": "Where to? /save talk.md, or talk.jsonl.",
    "saved": "Saved in {path}.",
    "turn_of": "turn {number} of “{title}”",
    "no_chats": "There are no conversations yet. Begin one: rostok chat {run}",
    "no_hits": "No turn holds all of these words.",
    "column_id": "id",
    "column_title": "title",
    "column_turns": "turns",
    "column_last": "last spoken",
    "deleted": "Deleted for good: {count}.",
    "renamed": "Renamed.",
    "exported": "{count} conversations in {path}.",
    "memory_summary": "{notes} notes; {turns} turns of {talks} conversations.",
    "erase_which": "Would be erased: {notes} notes, {turns} turns.",
    "nobody_asks": "Say --yes to erase it: nobody is at the terminal to be asked.",
    "trust_corpus": "corpus",
    "trust_said": "said",
    "trust_note": "note",
    "commands": {
        "/help": "this text",
        "/experts": "who can answer",
        "/pin NAME": "this one answers, whatever the router says; base is one too",
        "/unpin": "the router chooses again",
        "/why": "why the last answer came from whom it came",
        "/again": "another answer to the last question",
        "/compare": "the base and the best experts side by side, on the last question or on one given",
        "/remember TEXT": "keep something for every conversation",
        "/notes": "what is kept so",
        "/forget WHAT": "erase a note, or every note and turn that holds a word, for good",
        "/undo": "take the last turn away",
        "/new": "begin another conversation",
        "/save FILE": "write the conversation as Markdown, or as JSON where the name ends with .jsonl",
        "/quit": "leave (or Ctrl-D); Ctrl-C stops an answer",
    },
    "help_lede": "Ask anything. The expert whose thought is nearest answers; where none is near, the base does.",
    "help_lines": "Alt-Enter, or a backslash at the end of a line, begins another line.",
}

_RUSSIAN = {
    "waking": "эксперты просыпаются",
    "experts_one": "Слушают {count} эксперт и базовая модель; подробности: /help.",
    "experts_many": "Слушают эксперты ({count}) и базовая модель; подробности: /help.",
    "goes_on": "«{title}» продолжается; реплик до сих пор: {turns}.",
    "nothing_kept": "Этот разговор не сохраняется.",
    "you": "Вы",
    "note": "Заметьте: {text}",
    "cut": "(обрезано: длиннее ответы не бывают)",
    "stopped": "(остановлено; сказанное сохранено)",
    "stopped_unkept": "(остановлено)",
    "remembered": "прочитано {score:.2f}  {source}: {text}",
    "cost": "токенов прочитано: {prompt}, написано: {tokens}; {seconds:.1f} с",
    "spoke": "; говорили {titles}",
    "no_command": "Команды {name} нет. Все команды: /help.",
    "no_command_near": "Команды {name} нет; может быть, {near}?",
    "ask": "Спросите что-нибудь или выйдите: /quit.",
    "quit_leaves": "Выход: /quit.",
    "nothing_asked": "Ещё ничего не спрошено.",
    "why_expert": "{title}: {score:.2f} по способу «{strategy}»; эксперты говорят начиная с {threshold:.2f}.",
    "why_pinned": "{title}: выбор закреплён. Маршрутизатор: {score:.2f} по способу «{strategy}», порог {threshold:.2f}.",
    "why_base": "base: по способу «{strategy}» ни у кого не больше {score:.2f}, а эксперты говорят начиная с {threshold:.2f}.",
    "why_unknown": "Почему говорит {title}, тогдашний Rostok не сохранил.",
    "votes": "{share:.0%} голосов: {title}",
    "base_answers": "base  (отвечает на то, что никому из них не близко)",
    "pinned": "Теперь отвечает {title}; /unpin вернёт выбор маршрутизатору.",
    "pin_usage": "Кого? /pin ИМЯ: название или id эксперта, или base.",
    "unpinned": "Снова выбирает маршрутизатор.",
    "remember_usage": "Что? Например: /remember Мою дочь зовут Анна.",
    "noted": "Сохранено как {id}, для всех разговоров. Стереть: /forget {id}",
    "no_notes": "Заметок нет. Сохранить: /remember.",
    "forget_usage": "Что? id заметки или слово: все заметки и реплики с ним будут стёрты навсегда.",
    "forget_nothing": "Такого здесь ничего нет.",
    "forget_ask": "Стереть это навсегда? [д/Н] ",
    "forget_yes": "д да y yes",
    "forgotten": "Стёрто навсегда: {count}.",
    "kept_on": "Ничего не стёрто.",
    "undone": "Последней реплики больше нет.",
    "new": "Новый разговор.",
    "save_usage": "Куда? /save talk.md или talk.jsonl.",
    "saved": "Сохранено в {path}.",
    "turn_of": "реплика {number} разговора «{title}»",
    "no_chats": "Разговоров ещё нет. Начать: rostok chat {run}",
    "no_hits": "Реплик со всеми этими словами нет.",
    "column_id": "id",
    "column_title": "название",
    "column_turns": "реплик",
    "column_last": "когда",
    "deleted": "Удалено навсегда: {count}.",
    "renamed": "Переименовано.",
    "exported": "Разговоров: {count}, в {path}.",
    "memory_summary": "Заметок: {notes}; реплик: {turns}, разговоров: {talks}.",
    "erase_which": "Будет стёрто: заметок {notes}, реплик {turns}.",
    "nobody_asks": "Чтобы стереть, добавьте --yes: у терминала никого нет, спросить некого.",
    "trust_corpus": "корпус",
    "trust_said": "сказано",
    "trust_note": "заметка",
    "commands": {
        "/help": "этот текст",
        "/experts": "кто может ответить",
        "/pin ИМЯ": "отвечает он, что бы ни решил маршрутизатор; base тоже можно",
        "/unpin": "снова выбирает маршрутизатор",
        "/why": "почему последний ответ дал тот, кто его дал",
        "/again": "ещё один ответ на последний вопрос",
        "/compare": "базовая модель и лучшие эксперты рядом, на последний вопрос или на указанный",
        "/remember ТЕКСТ": "сохранить для всех разговоров",
        "/notes": "что так сохранено",
        "/forget ЧТО": "навсегда стереть заметку или все заметки и реплики с этим словом",
        "/undo": "убрать последнюю реплику",
        "/new": "начать другой разговор",
        "/save ФАЙЛ": "записать разговор в Markdown, а если имя кончается на .jsonl, в JSON",
        "/quit": "выйти (или Ctrl-D); Ctrl-C останавливает ответ",
    },
    "help_lede": "Спрашивайте о чём угодно. Отвечает эксперт, чья мысль ближе всего; если близких нет, базовая модель.",
    "help_lines": "Новая строка: Alt-Enter или обратная косая черта в конце строки.",
}

TEXTS = {"en": _ENGLISH, "ru": _RUSSIAN}


class Wording:
    """Looks up the interface's texts.

    Raises:
        ConfigError: there is no translation into that language.
    """

    def __init__(self, language: str = "en") -> None:
        if language not in TEXTS:
            raise ConfigError(f"the interface does not speak '{language}'. It speaks: {', '.join(TEXTS)}.")
        self.language = language
        self._texts = TEXTS[language]

    def __call__(self, key: str, **values: object) -> str:
        """The text `key` with its blanks filled in."""
        return str(self._texts[key]).format(**values)

    @property
    def commands(self) -> dict[str, str]:
        """{what to type: what it does}."""
        found = self._texts["commands"]
        assert isinstance(found, dict)
        return found
