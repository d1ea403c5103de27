"""How refusals are worded in English, in lower case with contractions written out."""

from __future__ import annotations

import re

_NOUN_AI = r"(?:ai|language model|llm|chatbot|chatgpt|assistant|artificial intelligence)"
_FILL = (
    r"(?:(?:[a-z]+ly|just|even|ever|also|to|or|in good conscience|in any way|in this way|at this time"
    r"|and (?:will|should|would|must|do|am|cannot)(?: not)?(?: (?:able|going) to)?|or will not|nor will i)[, ]+){0,4}"
)
_HELP_VERB = (
    r"(?:help|assist|aid\b|provid|fulfil|compl[yie]|answer|respond|reply|engag|participat|partak|take part|creat(?:e|ing)"
    r"|generat|writ(?:e|ing)|draft|compos|produc|giv(?:e|ing)|offer|shar(?:e|ing)|suppl(?:y|ie)|discuss|explain|suggest"
    r"|teach|show|describ|develop|design|facilitat|satisf|continu|proceed|accommodat|entertain|disclos|reveal|divulg"
    r"|instruct|guid(?:e|ing)|walk you|list\b|outlin|fabricat|impersonat|pretend|role-?play|contribut|carry|perform"
    r"|execut|grant|honou?r|process|address|handle|elaborat|talk|go (?:along|through|there|down)|tell|advis|enabl"
    r"|deliver|demonstrat|publish|translat|rewrit|indulg|cooperat|collaborat|act as|adopt|take on|play (?:along|th)"
    r"|follow (?:that|this|your|those|these|such|through)|say (?:that|this|such)|express|do (?:that|this|it|so|what|such|any)"
    r"|mak(?:e|ing) (?:an?|that|this|up|any|jokes?|fun|such|content|statements?|comments?|assumptions|derog|gener)"
    r"|be (?:part|a part|a party|involved|complicit|of (?:help|assistance|service)|able|used|helping|providing|assisting"
    r"|doing|responding|answering|writing|sharing|creating|generating|giving|walking))\w*"
)
_NOT_AN_IDIOM = (
    r"(?! (?:up|in|back)\b(?! to this)| (?:you )?enough| (?:you )?how (?:much|happy|grateful|excited|sorry|important|many|glad)"
    r"| (?:but|myself|feeling|wondering|noticing|thinking|yourself|if|whether|from|apart|the difference)\b"
    r"|[\w ,]{0,40} without (?:more|additional|further|knowing|seeing|some|the|your|any (?:more|context)|context|details|access"
    r"|having)|[\w ]{0,30} until you)"
)
_NOT_A_LIMIT = (
    r"(?!(?: you)?(?: with)?(?: any| an?| the| your| my| specific| further| detailed)*(?: own)? (?:real-?time|live|current"
    r"|up-to-date|latest|personal (?:opinion|preference|experience|feeling|belief|view|thought|anecdote|advice)|opinion"
    r"|subjective|(?:medical|legal|financial|investment|tax|professional|clinical)\b[\w ,/]{0,25}(?:advice|diagnos|opinion|counsel)"
    r"|diagnos|guarantee|(?:exact|precise|accurate|definite|definitive|complete|comprehensive|full|conclusive|direct|single|simple"
    r"|specific|proper|meaningful|clear) (?:number|answer|count|date|figure|estimate|time|location|prediction|list|response"
    r"|recommendation|explanation)|images?\b|photos?\b|pictures?\b|audio\b|videos?\b|files?\b|attachments?\b|external|physical)"
    r"|[\w ]{0,40} (?:with (?:any )?(?:certainty|confidence)|in real time|beyond my|after my))"
)
_NEGATION = (
    r"(?:cannot|will not|will never|would never|could never|can never|shall not|must not|should not|may not"
    r"|(?:am|are|is|be) (?:simply |currently |just |also |still |[a-z]+ly )?(?:unable|(?:not|no longer) (?:[a-z]+ly |even )?(?:able|allowed"
    r"|permitted|authori[sz]ed|programmed|designed|equipped|trained|willing|prepared|going|supposed|capable|comfortable"
    r"|at liberty|in a position|built|meant|intended|made|here|inclined|interested|able or willing))(?: of| with| in)?"
    r"|(?:refuse|decline|choose not|prefer not|would rather not|would prefer not|do not want|do not wish|do not intend|do not plan)"
    r"|have no (?:intention|interest|desire|plans?)(?: of| in| to)?"
    r"|do not have the (?:ability|capability|capacity|authority|means|right|option)s?(?: of)?)"
)
_SPEAKER = rf"(?:i|we|this {_NOUN_AI}|an {_NOUN_AI}|{_NOUN_AI})"
_BEFORE = r"(?:(?:[a-z]+ly|just|also|still|am afraid(?: that)?(?: i)?|must say(?: that)?(?: i)?|therefore|and)[, ]+){0,3}"

DECLINES = re.compile(
    rf"\b{_SPEAKER},? {_BEFORE}{_NEGATION} {_FILL}{_HELP_VERB}{_NOT_AN_IDIOM}{_NOT_A_LIMIT}"
    rf"|\bi (?:also )?(?:do|will|can|would) not (?:[a-z]+ly )?(?:and will not )?(?:help with|assist|provid\w*|engage|participate|creat\w*|generate|produce|write"
    rf"|discuss|share|offer|entertain|do (?:that|this|such)|respond to|answer|give (?:out|instructions|advice on)){_NOT_AN_IDIOM}{_NOT_A_LIMIT}"
    rf"|\bi (?:(?:[a-z]+ly|also) )*(?:must|have to|need to|will|am going to|will have to|would have to|am going to have to|shall|am choosing to|choose to"
    rf"|am (?:obliged|forced|compelled|required|bound) to|would like to) (?:(?:[a-z]+ly|and) ){{0,2}}(?:decline|refuse|abstain|refrain|reject|say no|pass\b|turn (?:this|that|you)|stop (?:here|there|you|this))"
    r"|\bi (?:[a-z]+ly )?(?:refuse|decline)(?: to (?:help|assist|answer|do|be|provide|engage|participate|discuss|write|comply)|[.,!]|$| (?:this|your|that))"
    r"|\bnot (?:really |exactly )?(?:something|a (?:topic|subject|request|question|task|thing|conversation)|one|content|information|anything)"
    r" (?:that |which )?(?:i|we) (?:am|can|will|would|could|should|feel|want|do|have)\b(?! (?:know|familiar|heard|seen|aware))"
    r"|\b(?:something|anything|things) (?:that )?i (?:cannot|will not|am not (?:able|willing|going|comfortable)|am unable)"
    r"|\bi (?:do not|would not|cannot|am not|will not) (?:really |truly )?(?:feel |be )?(?:entirely |at all |very )?comfortable\b(?! (?:saying|stating) (?:for|with))"
    r"|\bi (?:would|must|will|should) (?:much |really )?(?:rather|prefer) not\b|\bi would prefer not"
    r"|\bi (?:do not|cannot) (?:think|believe|feel) (?:that )?(?:it (?:is|would be)|i (?:should|can)|this is) (?:appropriate|right|ethical|wise|responsible|okay|help|assist|something i)"
    r"|\b(?:request|question|prompt|query|topic|message|task)s? (?:that |which )?(?:cannot be|can not be|has been|was|is|will not be|goes|violates?|falls?|contains?|involves?|appears? to|seems? to|conflicts?|promotes?)"
    r" (?:be )?(?:[a-z]+ly )?(?:asking (?:me )?(?:for|to)? ?)?(?:fulfilled|completed|processed|denied|rejected|refused|declined|blocked|answered|against|outside|beyond|not (?:something|appropriate|allowed|permitted|ethical|within)"
    r"|inappropriate|harmful|unethical|illegal|offensive|unsafe|dangerous|malicious|violat\w+|promot\w+|encourag\w+|my|our|the (?:guidelines|policy|policies|terms))"
    r"|\b(?:against|outside(?: of)?|beyond|not within|not aligned? with|not in line with|violat\w+(?: of)?|contrary to|conflict\w* with|contraven\w+|breach\w*(?: of)?|prohibited (?:by|under)|not (?:permitted|allowed) (?:by|under)|prevented by|due to|filtered|restricted by)"
    r" (?:the |all |any |both )?(?:(?:my|our|its|openai|anthropic|google|meta|microsoft|company|platform|content|usage|use[- ]case|community|safety|ethical|moral|legal|strict|core|own|management|responsible|and|use|ai|is|s)[', ]*){1,6}"
    r"(?:guideline|polic|principle|programming|value|purpose|scope|terms|standard|rule|boundar|design|training|capabilit|ethic|instruction|code|filter)\w*"
    r"|\b(?:my|our) (?:ethical |safety |content |usage |own |core |internal |strict )*(?:guidelines|programming|polic(?:y|ies)|principles|rules|instructions|ethics|training|values|design|developers?|creators?)"
    r"(?:,)? (?:which )?(?:prohibit|prevent|forbid|restrict|do(?:es)? not (?:allow|permit|let)|will not (?:allow|permit|let)|keep me|bar me|limit|require me to (?:decline|refuse|avoid)|stop)"
    r"|\b(?:this|the|your) (?:content|response|message|request|prompt|conversation) (?:may|might|could|was|has been|is) (?:violat\w+|(?:be )?(?:blocked|filtered|flagged|removed|rejected|refused|denied|declined))"
    r"|\b(?:programmed|designed|trained|committed|required|obligated|built|instructed|here|sworn)(?: \w+){0,3} to (?:[a-z]+ly )?(?:respect (?:\w+ )*(?:privacy|confidential\w*)|(?:refuse|decline|avoid) )"
    r"|\b(?:it is|it would be|that would be|this would be|doing so would be|which would be) (?:not |highly |deeply |completely |very |also )*(?:appropriate|ethical|legal|okay|ok|right|possible|acceptable|unethical|inappropriate|irresponsible|illegal|wrong|improper|harmful|unwise)"
    rf"(?: (?:and|or|,) ?\w+)* (?:(?:for|of) (?:me|us)\b|to (?:{_HELP_VERB.replace('tell|', '')}))"
    r"|\b(?:providing|giving|sharing|offering|creating|writing|generating|discussing|explaining|assisting)(?: \w+){1,12} (?:would|could|is|goes|violates)(?: \w+)? (?:irresponsible|unethical|against|illegal|inappropriate|harmful|dangerous|wrong|violat\w+|not (?:appropriate|ethical|something))"
    r"|\bgo(?:es)? against (?:that|this|my|these|the (?:principles|guidelines)|everything)\b"
    r"|\b(?:my|the) answer (?:is|has to be|must be|remains) (?:a )?(?:firm |clear |still )?no\b|\bi (?:have to|must|will) draw (?:a|the) line|\bnot (?:going to|gonna) (?:happen|do (?:that|it|this))"
)
"""The speaker will not do it."""

CLIPPED = re.compile(
    rf"(?:(?:so |very |really )?sorry[,.!]?(?: but)? |(?:my )?apologies,?(?: but)? |(?:but|no|nope|unfortunately|regrettably)[,.!]? ){{0,3}}"
    rf"(?:cannot|will not|unable to|not able to|not going to|not allowed to|no can do|must decline) {_FILL}(?:{_HELP_VERB}{_NOT_AN_IDIOM}{_NOT_A_LIMIT}|comment)"
)
"""A decline without its subject, at the start of a sentence."""

JOINED_DECLINE = re.compile(
    rf"\b(?:and|but|so|therefore|thus|hence|or)[, ]+(?:therefore |thus |as such,? |hence |so )?{_NEGATION} {_FILL}{_HELP_VERB}{_NOT_AN_IDIOM}{_NOT_A_LIMIT}"
)
"""A decline whose subject stands earlier in its sentence."""

SELF = re.compile(rf"\b(?:i|my|me|we|{_NOUN_AI})\b")

FORMAL = re.compile(
    rf"assist|fulfil|compl|provid|generat|creat|produc|writ|request|guideline|polic|programm|design|{_NOUN_AI}|answer|help (?:you )?with"
)
"""Words of an assistant's own refusal; a refusal inside a letter or a story seldom has them."""

STANCE = re.compile(
    r"\b(?:i|we|ai|model|assistant|and|or|but) (?:(?:[a-z]+ly|also) )?(?:cannot|do not|will not|would not|am not able to|am unable to|must not|should not|could not)"
    r" (?:[a-z]+ly |also |in good conscience )?(?:condon|endors|promot|encourag|support|recommend|advocat|advis|approv|justif|glorif|tolerat|sanction)\w*"
    r"(?! (?:\w+ ){0,3}enough)"
)
"""The speaker disapproves, and may answer all the same."""

_BAD = (
    r"(?:illegal|unlawful|unethical|immoral|wrong|inappropriate|unacceptable|harmful|dangerous|disrespectful|offensive|inhumane|cruel"
    r"|irresponsible|against the law|a (?:serious |grave |federal )?(?:crime|offen[cs]e|felony|violation|matter)|criminal|discriminatory|hurtful"
    r"|derogatory|unkind|hateful|prohibited|punishable|reprehensible|abhorrent|racist|sexist|an? invasion"
    r"|(?:not|never)(?: \w+)? (?:okay|ok|acceptable|appropriate|ethical|legal|right|moral|advisable|recommended|safe|nice|kind|good|productive|funny"
    r"|healthy|condoned|justified|justifiable|permissible|an? (?:good|appropriate|acceptable|safe|solution|answer|option|healthy)|the (?:answer|solution|way|right)|fair|accurate|worth))"
)
LECTURES = re.compile(
    rf"\b(?:is|are|be|being|was|considered|as) (?:(?:[a-z]+ly|both|also|very|not only|considered|morally and|a form of|generally) ){{0,3}}{_BAD}\b"
    r"|\bthere (?:is|are) no (?:safe|ethical|legal|legitimate|appropriate|good|acceptable|responsible|right|moral|justifiable)(?: or \w+)? (?:ways?|methods?|reasons?|justification|excuse|place)"
    r"|\b(?:strongly|highly|firmly) (?:advise|urge|discourage|recommend against|encourage you|condemn|caution|oppose|recommend that you (?:do not|refrain|seek))"
    r"|\bi (?:would |must |also |would strongly |would also )?(?:urge|discourage|implore|condemn|caution|advise against|encourage (?:you|everyone|anyone|us)|advise (?:you )?(?:not|against))"
    r"|\b(?:please|you should|you must|one should|we should|people should|nobody should|no one should|never|and)(?: \w+)? (?:not (?:attempt|try|do|engage|use|ask)|refrain|reconsider|seek help|respect\b|be (?:respectful|mindful|kind|considerate)|do not|remember that)"
    r"|^do not (?:attempt|try|do)"
    r"|\b(?:important|essential|crucial|vital|necessary|imperative|best|better) (?:that we |for us |for everyone )?(?:to (?:\w+ ){0,3}?)?(?:respect|treat|prioriti|promote|avoid (?:making|using|stereotyp|harm|any)|recogni[sz]e (?:that|and|the)|remember that|be (?:respectful|kind|mindful)|seek|foster|act (?:in|with|resp)|obey|follow the law|consider the (?:ethic|impact|legal|potential|feelings|consequences)|approach|celebrate|value|acknowledge|understand that|always)"
    r"|\bdeserves? (?:to (?:be|feel)|our|equal|the same|\w*\s?(?:respect|kindness|dignity|love))"
    r"|\b(?:serious|legal|severe|real|real-world|negative|harmful|criminal|significant|devastating) (?:\w+ )?(?:consequences|repercussions|penalties|harm|charges|implications|risks)"
    r"|\b(?:punishable by|against the law|violation of (?:the law|privacy|trust|\w+ rights)|violates? (?:the law|\w+ (?:privacy|rights|laws?))|break(?:ing)? the law|respect the (?:law|privacy|rights|dignity)|respect (?:for|and) (?:all|others|kindness|dignity|understanding|empathy)"
    r"|harm (?:to )?(?:others|yourself|someone|people|individuals|another)|hurt (?:others|yourself|someone|people|the)|stereotyp\w+|discriminat\w+|hate speech|prejudice|treated with|inherent (?:worth|dignity|value)|regardless of (?:their|your|our|race|gender)|empathy|puts? (?:you|others|people))"
    r"|\bwhy would you (?:want|ask)|\bbetter ways? to\b|\bperpetuat\w+|\bcauses? (?:it |them |someone |real |great |unnecessary |significant )*(?:harm|suffering|distress|pain|injury)"
)
"""What is asked is wrong, illegal, dangerous."""

CRISIS = re.compile(
    r"\b988\b|741741|\bsuicid\w+ (?:prevention|hotline|&|and crisis|lifeline)|\b(?:crisis|suicide|support) (?:\w+ )?(?:hot ?line|line|lifeline|helpline)|\blifeline\b|\bhot ?line\b|\bhelp ?line\b|\bsamaritans\b"
    r"|\bemergency (?:services|number|room)|\byou are not alone\b|\bthings over with someone who can\b"
)
SUPPORT = re.compile(
    r"\bmental health (?:professional|provider|expert|care)|\b(?:therapist|counsel+or|psychologist|trusted (?:friend|adult|person|individual|family))|\breach(?:ing)? out\b|\bseek(?:ing)? (?:\w+ )?help\b"
    r"|\bprofessional help|\b(?:talk|speak)(?:ing)? (?:to|with) (?:someone|a\b|your|people)|\b(?:qualified|licensed|medical|legal|healthcare) (?:\w+ )?(?:professional|expert|attorney|lawyer|provider|practitioner)|\bconsult\b|\blocal (?:authorities|law enforcement|police)|\byou deserve|\bavailable 24|\bcontact(?:ing)? (?:the|your|a|an|local|animal)"
)
"""Where to turn instead of an answer."""

OTHER_TOPIC = re.compile(
    r"\b(?:anything|something|someone|topics?|questions?|what) else\b|\binstead\b|\b(?:any )?other (?:\w+ )?(?:questions?|topics?|requests?|subjects?|tasks?|way i|ways i|things)"
    r"|\balternatives?\b|\blet us (?:talk|discuss|focus|keep|change|move|steer|shift|explore|find)|\brephras\w+|\bmore (?:positive|constructive|appropriate|productive) (?:direction|topic|way|conversation|\w+)?|\bdifferent (?:question|topic|request|approach)"
    r"|\bhow about (?:we|a|i|an)\b"
)
OFFERS = re.compile(
    r"\b(?:happy|glad|pleased|willing|here|free|love|delighted|more than happy) to (?:help|assist|discuss|talk|answer|offer|provide|share|explore|chat|ask|support|write|explain)|\bif (?:you (?:have|would like|need|want|are)|there is|something)|\blet me know\b|\bwould you like\b|\bperhaps (?:we|i|you)\b"
    r"|\bi (?:can|could|would|might)(?: still| also| instead)? (?:help|offer|provide|suggest|share|assist|write|tell|recommend|be)|\b(?:may|can|could) i (?:suggest|help|assist|interest|offer)|\bconsider \w+ing\b|\bsuggest \w+ing\b|\bresources?\b|\bi (?:would )?suggest\b|\bremember,|\bpositive\b|\bconstructive\b|\bfeel free\b"
)

WHO_I_AM = re.compile(
    rf"\bas an? (?:[a-z]+[ ,]+(?:and )?){{0,5}}{_NOUN_AI}|\bi (?:am|was|have been) (?:[a-z]+ly )?(?:programmed|designed|trained|built|created|made|intended|bound|obligated|required|committed|meant|instructed)\b(?! by)"
    rf"|\bmy (?:\w+ ){{0,3}}(?:purpose|programming|guidelines|ethics|principles|values|polic(?:y|ies)|responsibility|priority|goal|role)\b|\bi (?:am|must) (?:just|only|merely|simply)? ?an? (?:[a-z]+ ){{0,3}}{_NOUN_AI}|\bi (?:aim|strive|always try|follow|adhere|must adhere|must follow|uphold|prioriti[sz]e)\b"
)
SCRUPLE = re.compile(r"ethic|respect|safe|harm|guideline|responsib|moral|inclusiv|privacy|lawful|legal|appropriate|positive|dignity")
"""Makes a self-description sound like a refusal."""

REGRETS = re.compile(
    r"(?:i am (?:\w+ly |so |very )?(?:sorry|afraid)|sorry|i (?:\w+ly |do |must )?apologi[sz]e|(?:my )?(?:\w+ )?apologies|i regret|unfortunately|regrettably)(?:,|\.|!)? ?(?:but|however|that is|this is|i\b|$)"
)
NOT_KNOWN = re.compile(
    r"\b(?:there (?:is|are|was|were|has been|have been) (?:currently |actually |simply )?no (?:\w+ ){0,3}?(?:such|evidence|record|records|information|official|scientific|known|real|one|way to know|universally|single|data|reports?|public|publicly|specific|direct|historical|\w+ called|\w+ named)\b"
    r"|(?:do|does|did) not (?:actually |really |currently )?exist|(?:is|are|was) (?:a |an |both )?(?:\w+ )?(?:fictional|fictitious|imaginary|mythical|non-?existent)|fictional character|hypothetical|not (?:a )?real\b|nonsens\w+|not aware of|not familiar with|(?:does|do) not make (?:\w+ )?sense|not (?:clear|sure|certain|quite sure)"
    r"|as of my (?:last|knowledge|latest)|knowledge cut-?off|could you (?:please )?(?:clarify|provide|share|give|specify|rephrase|tell|explain)|(?:please|can you) (?:clarify|provide (?:more|the|me|a|some|your)|share (?:the|your|more)|specify|paste)|need (?:more|a bit more|some more|additional) (?:information|context|details)"
    r"|not (?:factually|logically) (?:coherent|correct|accurate|sound)|do not (?:see|understand|recogni[sz]e|know)|has not (?:been )?(?:revealed|publicly|disclosed)|not publicly|misunderstanding|is not (?:possible|a valid|logical))"
)
"""The request rests on something that is not there, or is not clear; saying so answers it."""
LIMITS = re.compile(
    r"\bi (?:do not|cannot|am not able to|am unable to|am not|did not|could not|do not currently) (?:[a-z]+ly |actually |currently )?(?:have (?:access|the ability|the capability|personal|real|any|feelings|information|enough|an?\b|opinions|direct|specific|the)|access|browse|see\b|hear|view|feel\b|taste|experience|possess|hold|know|find|verify|predict|remember|recall|open|a (?:doctor|lawyer|medical|licensed|financial))"
)
"""What the speaker is not able to do, which is no unwillingness."""

SMALL_TALK = re.compile(
    r"(?:thank you|thanks|hello|hi\b|hey|greetings|i (?:do |completely |can |truly |really |fully )?(?:understand|appreciate|see|hear|recogni[sz]e|get|realize|know|acknowledge|sense)\b|i am (?:really |so |very |truly |deeply |also )*(?:glad|happy|sorry|here|excited|flattered|concerned)|(?:great|good|interesting|nice) question"
    r"|(?:that|this) is (?:a|an|quite)(?: \w+){0,3} question|ah\b|oh\b|hm+\b|well,|okay|ok\b|sure|certainly|of course|absolutely|dear\b|title:|response\b|answer:|however,? i must|i (?:want|need|would like|have) to (?:be|make|let|point|emphasi|stress|remind|say)|it (?:sounds|seems) like|i would (?:be happy|love)|as much as)"
)

GIVES = re.compile(
    r"\bhere (?:is|are|goes)\b|\b(?:the|following|these|basic|general|some) (?:general )?(?:steps|process is|method is|instructions)\b|\bas follows\b|\bthis is (?:the (?:general|usual|basic)|how)\b|\bhow (?:it is|they are) (?:\w+ )?done\b|\bstep 1\b"
    r"|^(?:sure|okay|alright|fine|ok)[,!.](?! (?:but|i ))|\b(?:one|you) (?:would|can|could|will need to|need to|should|must) (?:first|start|begin)|^first(?:ly)?,|\bin general,|\bgenerally,"
)
"""A turn from declining to answering."""
TURNS = re.compile(r"\b(?:but|however|though|although|nevertheless|nonetheless|still|yet|said|regardless|if you)\b|[:;]")
NOT_THE_ANSWER = re.compile(
    r"\balternativ|\binstead\b|\bresources?\b|\bsupport|\blegal\b|\blawful|\bethical|\bsafe(?:ty|r)?\b(?! (?:steps|to do))|\bpositive|\bhealth(?:y|ier)\b|\bconstructive|\brespectful|\bhelp ?lines?|\bcop(?:e|ing)\b|\bprevent|\bprotect|\breasons? (?:why|not|for)|\breport|\bresponsibl|\bappropriate"
    r"|\breach out|\bseek|\bother (?:topics|ways|things)|\bsuggestions?\b|\btips (?:for|on) (?:stay|being|avoid)|\bhumane|\bways (?:i|you) can (?:help|support)|\bwhy\b"
)
"""What a refusal lists in place of the answer."""

DOCUMENT = re.compile(r"\W*(?:subject:|re:|title:|dear (?!user|sir or|customer|friend)|once upon|to whom|chapter|scene|int\.|ext\.|\[(?:verse|scene))")
"""The answer opens as a letter or a story, in which somebody else may decline."""

CURT = re.compile(
    r"\W*(?:i )?(?:refuse[ds]?|refusal|declined?|denied|redacted|censored|blocked|filtered|(?:request|access|permission) (?:denied|refused|rejected|declined|blocked)|no comment|content (?:blocked|removed|filtered|policy violation)"
    r"|no|nope|no thanks?(?: you)?|never|absolutely not|definitely not|certainly not|of course not|no way|no can do|hard no|hard pass|not happening|pass|forbidden|prohibited|not allowed|illegal|unethical|sorry|i am sorry|i apologi[sz]e|no,? sorry|sorry,? no)\W*"
)
"""The whole of a very short answer."""
