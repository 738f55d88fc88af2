"""All words of the page, in English and Chinese."""

from __future__ import annotations

LANGUAGES = {"en": "English", "zh": "中文"}

_WORDS: dict[str, tuple[str, str]] = {
    # the frame
    "tagline": ("One space for pictures, words, sounds and videos", "图像、文字、声音与视频，同一个空间"),
    "skip": ("Skip to the content", "跳到正文"),
    "tab_search": ("Search", "搜索"),
    "tab_caption": ("Caption", "描述"),
    "tab_ask": ("Ask", "问答"),
    "tab_map": ("Map", "地图"),
    "tab_health": ("Health", "状态"),
    "language": ("中文", "English"),
    "language_hint": ("Change the language to Chinese", "切换到英文"),
    "dark": ("Light or dark", "浅色或深色"),
    "items": ("items", "个条目"),
    # searching
    "query": ("What are you looking for?", "想找什么？"),
    "query_hint": ("Describe it in words, or give a file", "用文字描述，或给出一个文件"),
    "go": ("Search", "搜索"),
    "upload": ("Search with a file", "用文件搜索"),
    "record": ("Record a sound", "录音"),
    "record_refused": ("The microphone may not be used", "无法使用麦克风"),
    "clear": ("Remove", "移除"),
    "like": ("More like this", "更多类似"),
    "like_of": ("More like this item", "与此条目类似"),
    "with_file": ("With your file", "用您的文件"),
    "weight": ("Weight of the words beside a file", "文字相对文件的权重"),
    "found_in": ("Look in", "查找范围"),
    "options": ("Filters and options", "筛选与选项"),
    "filter": ("Add a filter, for instance year>=2020", "添加筛选，例如 year>=2020"),
    "filter_hint": (
        "NAME=VALUE, also with != < <= > >= or in; Enter adds it",
        "名称=值，也可用 != < <= > >= 或 in；按回车添加",
    ),
    "mode": ("How", "方式"),
    "mode_auto": ("Automatic", "自动"),
    "mode_vector": ("By meaning", "按语义"),
    "mode_text": ("By words", "按词语"),
    "mode_hybrid": ("Both", "两者"),
    "fold": ("Fold near-duplicates", "合并近似重复"),
    "welcome": ("Try one of these", "试试这些"),
    "searching": ("Searching", "搜索中"),
    "nothing": ("Nothing found. Fewer filters or other words may help.", "没有结果。减少筛选或换个说法试试。"),
    "more": ("Show more", "显示更多"),
    "hits": ("hits", "条结果"),
    "hit": ("hit", "条结果"),
    "results": ("Results", "结果"),
    "copies": ("near-duplicates", "个近似重复"),
    # a hit
    "why": ("Why?", "为什么？"),
    "why_title": ("Why this was found", "为什么找到它"),
    "why_told": (
        (
            "Known pairs that taught the space this connection: on the left what is like your query, on the "
            "right what is like the hit."
        ),
        "教会空间这种联系的已知配对：左边与您的查询相似，右边与结果相似。",
    ),
    "why_none": ("No known pair speaks for it.", "没有已知配对支持它。"),
    "near_query": ("like your query", "与查询相似"),
    "near_hit": ("like the hit", "与结果相似"),
    "probability": ("chance to be right", "正确的概率"),
    "similarity": ("similarity", "相似度"),
    "by_words": ("found by its words", "按词语找到"),
    "from": ("from", "从"),
    "open": ("Open", "打开"),
    "close": ("Close", "关闭"),
    "paired": ("Belongs to", "配对条目"),
    "collection": ("Collection", "集合"),
    "split": ("Split", "划分"),
    "file": ("File", "文件"),
    # captions and answers
    "caption_title": ("What does it show?", "它表现了什么？"),
    "caption_told": (
        "Give a picture, a sound or a video. The caption is the one that most captions of similar items agree on.",
        "给出图像、声音或视频。描述取自相似条目中最一致的一条。",
    ),
    "choose": ("Choose a file", "选择文件"),
    "drop": ("or drop it here", "或拖放到此处"),
    "bounds": ("up to", "最大"),
    "captioning": ("Looking at it", "正在查看"),
    "caption_made": ("Caption", "描述"),
    "evidence": ("What it was taken from", "依据"),
    "agreement": ("agreement of the captions", "描述的一致程度"),
    "ask_title": ("Ask about it", "就它提问"),
    "ask_told": (
        (
            "Give a medium and ask a question. The answer comes from stored questions and answers, captions, or "
            "the choices that you name."
        ),
        "给出媒体并提问。答案来自已存的问答、描述，或您给出的选项。",
    ),
    "question": ("Your question", "您的问题"),
    "candidates": ("Choices, separated by commas (optional)", "选项，用逗号分隔（可选）"),
    "ask_go": ("Ask", "提问"),
    "unknown": ("I don't know.", "我不知道。"),
    "confidence": ("confidence", "置信度"),
    "how": ("Found by", "方法"),
    "how_rows": ("stored questions and answers", "已存的问答"),
    "how_candidates": ("comparing the choices", "比较各选项"),
    "how_captions": ("captions of similar items", "相似条目的描述"),
    "how_reader": ("a local model", "本地模型"),
    "alternatives": ("What else it could be", "其他可能"),
    "need_medium": ("Choose a file first", "请先选择文件"),
    "caption_this": ("Caption this", "描述它"),
    "ask_this": ("Ask about this", "就它提问"),
    # the map
    "map_title": ("A map of the space", "空间地图"),
    "map_told": (
        (
            "Neighbours here are neighbours in the space, as far as two dimensions can tell (t-SNE of a sample). "
            "Point at an item to see it, choose it to open it."
        ),
        "在二维所能表达的范围内，图中相邻即空间中相邻（样本的 t-SNE）。指向条目可查看，选择可打开。",
    ),
    "map_drawing": ("Drawing the map", "正在绘制地图"),
    "map_of": ("items shown of", "个条目，共"),
    # health
    "health_title": ("What answers", "当前空间"),
    "space": ("Space", "空间"),
    "rows": ("Items", "条目数"),
    "index": ("Index", "索引"),
    "recall": ("Recall of the index", "索引召回率"),
    "recall_hint": ("share of the true ten nearest that it finds", "真实最近十个中找到的比例"),
    "method": ("Aligned by", "对齐方法"),
    "pairs": ("Training pairs", "训练配对"),
    "width": ("Width", "维数"),
    "status_ok": ("In order", "正常"),
    "status_stale": ("A newer space cannot be opened: see the log", "无法打开较新的空间：请看日志"),
    "for_programs": ("For programs", "供程序使用"),
    # errors
    "failed": ("That did not work", "未能完成"),
    "see_log": ("The server failed: see its log", "服务器出错：请看其日志"),
    "too_large": ("The file is too large", "文件过大"),
    # modalities
    "image": ("Pictures", "图像"),
    "text": ("Texts", "文字"),
    "audio": ("Sounds", "声音"),
    "video": ("Videos", "视频"),
    # signing in
    "login_title": ("modalign", "modalign"),
    "login_token": ("Token", "令牌"),
    "login_go": ("Sign in", "登录"),
    "login_wrong": ("That is not the token.", "令牌不正确。"),
}

EXAMPLES = {
    "en": ("something to eat", "two dogs playing", "a child by the water"),
    "zh": ("吃的东西", "两只狗", "水边的孩子"),
}
"""Queries to begin with."""


def words(language: str) -> dict[str, str]:
    """The words in a language of `LANGUAGES`.

    >>> words("zh")["go"]
    '搜索'
    """
    place = list(LANGUAGES).index(language)
    return {name: said[place] for name, said in _WORDS.items()}


def preferred(accepted: str) -> str:
    """The language that an Accept-Language header asks for first, of those there are.

    >>> preferred("zh-CN,zh;q=0.9,en;q=0.8"), preferred("fr")
    ('zh', 'en')
    """
    asked = [part.partition(";")[0].strip().lower()[:2] for part in accepted.split(",")]
    return next((one for one in asked if one in LANGUAGES), "en")


def labels_for(accepted: str) -> dict[str, str]:
    """The words for an Accept-Language header."""
    return words(preferred(accepted))
