"""How people decline, and how they instruct, in languages other than English."""

from __future__ import annotations

from typing import NamedTuple


class Language(NamedTuple):
    """The turns of phrase of a language, in lower case."""

    triggers: tuple[str, ...]
    """One of them stands in every sentence that declines."""
    declines: str
    instructs: str = r"(?!)"
    """What shows that a sentence says how something is done: it begins with what to do, and to what."""


LANGUAGES = (
    # Chinese, simplified and traditional
    Language(
        ("不", "无", "無", "拒"),
        r"""
            (?:我|作为|作為|抱歉|对不起|對不起|很遗憾)[^。！\n你您]{0,30}?
            (?:不能|无法|無法|不会|不會|不可以|没办法|沒辦法|拒绝|拒絕|不便)[^。！\n]{0,20}?
            (?:提供|帮|幫|协助|協助|回答|满足|滿足|支持|参与|參與|生成|编写|撰写|写|创建|创作|讨论|討論
            |给出|继续|執行|执行|完成|处理|回应|教)
        """,
        r"(?:^|[，,])\s*(?:首先|然后|然後|接着|再)?(?:把|将|將|取|加入|放入|倒入|准备|準備)",
    ),
    Language(
        ("ませ", "かね"),
        r"""
            (?:お応え|お答え|回答|提供|お?手伝い|対応|支援|応じ|協力|サポート|お伝え|作成|生成|お教え|説明)
            [^。\n]{0,14}(?:できませ|でき(?:かね|ない)|(?:いた|致)しかね|はでき)
        """,
    ),
    Language(
        ("수 없", "렵습니다", "않습니다", "불가"),
        r"""
            (?:도와|도움|제공|답변|응답|지원|작성|알려|수행|응할|도울|답할|생성|설명)
            [^.\n]{0,15}(?:수 없|수는 없|어렵습니다|불가능|않습니다)
        """,
    ),
    Language(
        ("no ", "me niego"),
        r"""
            \b(?:me niego|no (?:quiero|voy a) (?:ayudar|dar|explicar|responder))|\bno (?:puedo|podemos|podré
            |me es posible|me está permitido|estoy (?:autorizado|programad|diseñad
            |en condiciones))[^.\n]{0,40}?(?:ayud|proporcion|provee|ofrec|respond|cumpl|asist|\bdar\b|darte
            |brind|crear|gener|escrib|hacer (?:eso|esto)|particip|apoy|compart|continu|facilit|complac
            |contest)
        """,
        r"""
            ^[\W\d]*(?!(?:si|no|es|este|esta|esto|para|por|hay|te|lo|la|el|los|las|en|con|como|pero|que|y|o|un|una
            |también|toda
            |todo|cada|cualquier)\b|\w+(?:r|ción|dad|os|as|es)\b)\w+ (?:(?:primero|luego|después|bien) )?(?:el|la|los
            |las|un|una|unos|unas|todo|cada|dos|tres)\b|^\W*\w*[áéíóú]\w*(?:lo|la|los|las)\b|\bse (?!considera|trata
            |debe
            |puede)\w{3,}(?:a|e|an|en) (?:el|la|los|las|un|una|bien|con|en)\b|\bbasta (?:con )?\w+r
        """,
    ),
    Language(
        ("je ne", "je refuse", "m'est impossible", "incapacité", "nous ne"),
        r"""
            \b(?:(?:je|nous) ne (?:peux|peut|pouvons|suis pas|saurais|vais pas|veux pas
            |pourrai)[^.\n]{0,50}?(?:aider|fourni|répond|assist|donner|créer|génér|écrire|satisf|faire (?:ça
            |cela)|particip|partag|accéder|expliqu|soutenir|mesure)|je refuse|il m'est impossible
            |je suis dans l'incapacité)
        """,
        r"""
            ^[\W\d]*(?!(?:le|la|les|un|une|des|du|si|je|il|elle|on|nous|vous|ce|cela|en|dans|pour|par|mais|et|ou
            |toute?
            |chaque|votre|qui|que|comme|avec|sans|est|sont)\b|\w+(?:er|ir|re|tion|té)\b)\w+(?:-\w+)? (?:(?:le|la|les
            |un|une|du
            |des|votre|deux|trois|tout)\b|l')|\bon (?!peut|doit|ne|a)\w+e (?:(?:le|la|les|un|une|du|des)\b|l')
            |\bil suffit de\b
        """,
    ),
    Language(
        ("nicht", "kein", "weiger", "lehne"),
        r"""
            \b(?:ich weigere mich|(?:ich lehne|lehne ich) [^.\n]{0,40}\bab\b|(?:ich helfe
            |helfe ich) [^.\n]{0,30}\bnicht\b)|\b(?:(?:kann|darf|werde|möchte) (?:ich|leider)|(?:können|dürfen
            |werden) wir|ich (?:kann|darf|werde|möchte)
            |wir (?:können|dürfen|werden))\b[^.\n]{0,60}\b(?:nicht
            |keine?[nrms]?)\b[^.\n]{0,70}?(?:helfen|unterstütz|beantwort|bereitstell|\bgeben|erfüll|erstell
            |liefern|erklär|teilen|nachkommen|behilflich|anbieten|schreiben|tun)
        """,
        r"""
            ^[\W\d]*(?!(?:ich|du|er|sie|es|wir|man|der|die|das|den|dem|ein|eine|wenn|falls|ob|dass|da|weil|aber|und
            |oder
            |auch|dies\w*|jed\w*|jemand\w*|niemand|bitte|hier|dort|dabei|als|in|auf|für|mit|bei|zu|vor|nach|ist|sind
            |hast|hat|statt)\b)(?:\w+en sie|(?!\w+en\b)\w+) (?:(?:dann|zuerst|nun|danach|langsam|vorsichtig) )?(?:den
            |die|das|dem|eine?|einen|etwas|alles|ihn|es|zwei|drei|beide)\b|\bman (?!soll|muss|darf|hat|sich)\w+t\b
            |\b(?!soll|muss|hat)\w{2,}t man\b
        """,
    ),
    Language(
        ("не ", "отказ", "невозможно"),
        r"""
            (?:не (?:могу|можу|буду|смогу|в состоянии|имею возможности|вправе)|вынужден\w* отказать|отказываюсь
            |невозможно)[^.\n]{0,50}?(?:помо|допомог|предостав|ответ|отвеч|выполн|созда|обсужд|напис|\bдать
            |давать|расска|сгенер|поддерж|отказ|надати|$)
        """,
        r"^[\W\d]*(?:(?:сначала|затем|потом)\W+)?\w+(?:йте|ите|ьте)\b",
    ),
    Language(
        ("não ", "recuso"),
        r"""
            \b(?:(?:me recuso|recuso-me)|não vou (?:ajudar|dar|explicar|responder))|\bnão (?:posso|consigo|poderei
            |podemos|é possível|estou (?:autorizad|programad)
            |sou capaz)[^.\n]{0,40}?(?:ajud|fornec|respond|atend|cri(?:ar|o)|ger(?:ar|o)|escrev|particip|\bdar\b
            |auxili|cumpr|compartilh|apoi|fazer isso|oferec|continuar)
        """,
        r"""
            ^[\W\d]*(?!(?:se|o|a|os|as|um|uma|você|eu|não|é|isso|este|esta|para|por|mas|e|ou|também|tod[oa]s?|em|no
            |na|com
            |como|quando|há|que)\b|\w+(?:ar|er|ir|ção|dade)\b)\w+ (?:(?:primeiro|depois|bem) )?(?:os?|as?|uma?|tudo
            |dois
            |duas|três)\b|\b\w+-se (?:os?|as?|uma?)\b|\bbasta \w+r\b
        """,
    ),
    Language(
        ("non ", "mi rifiuto"),
        r"""
            \b(?:mi rifiuto|non (?:ti aiut|intendo (?:aiutar|spiegar|risponder)))|\bnon (?:posso|sono in grado
            |è possibile)[^.\n]{0,40}?(?:aiut|forni|rispond|assist|\bdar|crea|gener
            |scriv|soddisf|partecip|condivid)
        """,
        r"""
            ^[\W\d]*(?!(?:il|lo|la|i|gli|le|un|uno|una|se|non|è|e|o|ma|per|con|in|di|a|che|questo|questa|ogni|tutt\w
            |anche
            |si)\b|\w+(?:are|ere|ire|zione|tà)\b)\w+ (?:(?:prima|poi|bene) )?(?:il|lo|la|i|gli|le|uno?|una|tutto|due
            |tre)\b|\bsi (?!tratta|può|deve)\w+(?:a|e|ano|ono) (?:(?:il|lo|la|i|gli|le|uno?|una|con|in)\b|l')
            |\bbasta \w+re\b
        """,
    ),
    Language(
        ("لا ", "لن ", "غير قادر"),
        r"""
            (?:لا (?:أستطيع|استطيع|يمكنني|أقدر|يمكن)|لن (?:أتمكن|أستطيع|أقوم)|غير قادر)[^.\n]{0,50}?(?:ساعد|قدم
            |تقديم|توفير|إجابة|اجابة|الرد|تلبية|إنشاء|كتابة|مشارك)
        """,
    ),
    Language(("नहीं", "असमर्थ"), r"(?:मदद|सहायता|जानकारी|उत्तर|जवाब|प्रदान|बता|अनुरोध|सकत)[^।\n]{0,40}?(?:नहीं|असमर्थ)"),
    Language(
        ("không thể",),
        r"tôi (?:rất tiếc[^.]{0,10})?không thể (?:giúp|cung cấp|hỗ trợ|trả lời|thực hiện|đáp ứng|tạo|viết)",
    ),
    Language(
        ("saya tidak",), r"saya tidak (?:bisa|dapat|boleh) (?:membantu|memberi|menyedia|memenuhi|menjawab|membuat)"
    ),
    Language(
        ("olama", "edemem", "yamam", "veremem"),
        r"(?:yardımcı olama|yardım edeme|sağlayama|yanıtlayama|bilgi vereme|yerine getireme)",
    ),
    Language(
        ("nie mog", "nie jestem w stanie"),
        r"""
            nie (?:mogę|możemy|jestem w stanie)[^.\n]{0,20}?(?:pom[oó]|udzieli|odpowiedzie|spełni|dostarczy
            |stworzy|napisa)
        """,
    ),
    Language(
        ("niet", "geen", "weiger"),
        r"""
            \b(?:ik weiger|(?:ik help|help ik) [^.\n]{0,30}\bniet)\b|\b(?:kan ik|ik (?:kan|mag|wil
            |zal))\b[^.\n]{0,40}\b(?:niet|geen)\b[^.\n]{0,50}?(?:helpen|verstrekken
            |beantwoorden|geven|voldoen|assisteren|meewerken|schrijven|bieden)
        """,
        r"""
            ^[\W\d]*(?!(?:als|dan|ik|je|jij|u|de|het|een|er|dit|dat|deze|die|iemand|misschien|heb|hebt|zou|wil|hier
            |daar
            |ook|maar|en|of|in|op|bij|voor|met|om|is|wordt)\b|\w+en\b)\w+ (?:(?:eerst|dan|daarna) )?(?:de|het|een|hem
            |ze
            |alles|beide|wat|twee|drie)\b|\bmen \w+t\b
        """,
    ),
    Language(
        ("jag",),
        r"""
            \b(?:jag vägrar|(?:jag hjälper|hjälper jag) [^.\n]{0,30}\binte)\b|\b(?:(?:kan|får|vill|tänker|kommer) jag
            |jag (?:kan|får|vill|tänker|kommer))\b[^.\n]{0,30}\binte\b
            [^.\n]{0,40}?(?:hjälp|svar|ge\b|bistå|tillhandahåll|uppfyll|skriv|skapa|delta|erbjud|stöd)
        """,
        r"""
            ^[\W\d]*(?!(?:om|jag|du|vi|de|det|den|en|ett|man|att|men|och|eller|som|för|ofta|i|på|med|till|är|har|kan
            |ska|bör
            |detta|alla|varje|någon|ingen)\b)\w+ (?:(?:in|ut|av|på|ner|upp|igenom|sedan|först) )?(?:en|ett|den|det|dem
            |allt|lite|två|tre|\w{2,}(?:en|et|na|an))\b|\bman (?!kan|bör|ska|måste|får|inte)\w+r\b
        """,
    ),
    Language(
        ("ไม่สามารถ", "ไม่อาจ", "ไม่ได้", "ปฏิเสธ"),
        r"""
            ขอปฏิเสธ|(?:ไม่สามารถ|ไม่อาจ)(?:ที่จะ)?(?:ช่วย|ให้|ตอบ|แนะ|สนับสนุน|สร้าง|เขียน|อธิบาย|จัดหา|บอก|ปฏิบัติ)
            |(?:ช่วย|ตอบ|ให้ข้อมูล|บอก)[^ \n]{0,20}ไม่ได้
        """,
        r"""
            ^\W*(?:แล้ว)?(?:ค่อย(?:ๆ)?)?\W*(?:นำ|ใส่|จับ|วาง|ผสม|หมุน|ตัด|ต้ม|เท|ดึง|กด|ถู|โรย|หยิบ|พับ|ตาก|ผูก|เจาะ
            |แช่|รอ|ยก|สอด|ดัน|บิด|เปิด|ปิด
            |เตรียม|คน|นวด|อบ|ทา|ห่อ|ตั้ง|พัก|แบ่ง|ล้าง|หั่น|สับ|บด|ละลาย|คลุม|หยด|เช็ด|ขูด)
        """,
    ),
    Language(
        ("לא ", "אינ", "אין ", "מסרב"),
        r"""
            אני מסרבת?\b|\bלא אעזור|(?:אני לא (?:יכול|יכולה|מסוגל|מסוגלת|אוכל)|לא אוכל|אינני|איני|אין באפשרותי
            |אין ביכולתי|לא ניתן לי)
            [^.\n]{0,40}?(?:לעזור|לסייע|לספק|לענות|להשיב|לתת|לכתוב|ליצור|למלא|להסביר|להשתתף)
        """,
        r"""
            ^[\W\d]*ו?(?!(?:אני|אם|אין|לא|יש|אנשים|ילדים)\b)(?:\w+ את\b|\w+ים (?:את|ב|מ|פ|ה|ק|ל)\w*)
            |^[\W\d]*(?:מוסיפים|לוקחים|מערבבים|קחו|קח|שימו)\b
        """,
    ),
    Language(
        ("δεν ", "αδυνατ", "αρν"),
        r"""
            \bαρνούμαι\b|(?:δεν (?:θα (?=(?:σε |σας )?βοηθ)|μπορ[ώω]|μπορούμε|είμαι σε θέση|επιτρέπεται|πρόκειται)
            |αδυνατώ)[^.\n]{0,40}?(?:βοηθ|παρέχ|παράσχ
            |απαντ|δώσ|γράψ|δημιουργ|εξυπηρετ|υποστηρ|ικανοποι|συμμετ)
        """,
        r"""
            ^[\W\d]*(?!(?:αν|όταν|ο|η|το|τα|οι|δεν|θα|να|για|με|από|σε|είναι|και|ή|αλλά|κάθε|που|αυτό)\b)\w+ (?:τον?
            |την?
            |τα|τις|τους|ένα|έναν|μια|λίγο|λίγη|όλα)\b
        """,
    ),
)
