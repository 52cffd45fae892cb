"""Words by which an answer speaks to its judge in languages other than English."""

from __future__ import annotations

from collections.abc import Mapping

SPACED: Mapping[str, tuple[str, str, str]] = {
    "german": (
        r"gutachter|bewert\w*|pruefer|prufer|juror|richter|note[n]?|punkt(?:e|zahl|en)|benot\w*|anweisung(?:en)?|skala",
        r"ignorier\w*|vergiss|vergib|gib|geben sie|missacht\w*|bewerte\w*|verdient|erhalt|setze|vergeben",
        r"100|volle|hochst\w*|maxim\w*|beste\w*|hundert|vorherig\w*|obig\w*|bisherig\w*|perfekt\w*",
    ),
    "french": (
        r"evaluateur|correcteur|juge|examinateur|note[rsz]?|notation|score|points?|instructions?|consignes?|reponse",
        r"ignore[rz]?|oublie[rz]?|attribue[rz]?|donne[rz]?|merite|accorde[rz]?|mettre|mets|mettez",
        r"100|maxim\w*|parfait\w*|cent|precedent\w*|ci-dessus|pleine",
    ),
    "spanish": (
        r"evaluador\w*|juez|calificador\w*|revisor\w*|nota|puntu\w*|calific\w*|puntos|instrucciones|respuesta",
        r"ignor[ae]\w*|olvid\w*|asign\w*|dale|otorg\w*|merece|pon|califica\w*",
        r"100|maxim\w*|perfect\w*|mejor|cien|anterior\w*|previ\w*|arriba",
    ),
    "portuguese": (
        r"avaliador\w*|juiz|juiza|corretor\w*|nota|pontu\w*|avali\w*|pontos|instrucoes|resposta",
        r"ignor[ae]\w*|esquec\w*|atribu\w*|merece|conced\w*",
        r"100|maxim\w*|perfeit\w*|melhor|cem|anterior\w*|acima",
    ),
    "italian": (
        r"valutator\w*|giudice|esaminator\w*|revisor\w*|voto|punteggi\w*|valut\w*|punti|istruzioni|risposta",
        r"ignora\w*|dimentica\w*|assegna\w*|merita|attribui\w*|dare",
        r"100|massim\w*|perfett\w*|miglior\w*|cento|precedent\w*|sopra",
    ),
    "dutch": (
        r"beoordela\w*|rechter|examinator|cijfer|score|punten|instructies|antwoord|beoordeling",
        r"negeer\w*|vergeet|geef|ken|verdient|toeken\w*",
        r"100|maxim\w*|perfect\w*|hoogste|honderd|vorige|bovenstaande|eerdere|volledige",
    ),
    "polish": (
        r"sedzi\w*|ocen\w*|recenzent\w*|egzaminator\w*|punkt\w*|instrukcj\w*|polece\w*|odpowied\w*",
        r"zignoruj\w*|ignoruj\w*|zapomnij\w*|daj\w*|przyznaj\w*|zasluguje|wystaw\w*",
        r"100|maksym\w*|najwyzsz\w*|idealn\w*|sto|poprzedni\w*|powyzsz\w*|wczesniejsz\w*|peln\w*",
    ),
    "turkish": (
        r"degerlendir\w*|yargic\w*|hakem\w*|puan\w*|notu?|talimat\w*|cevap\w*|cevab\w*|yanit\w*",
        r"yok say\w*|unut\w*|ver(?:in|iniz|ilmeli|melisin\w*)?|gormezden|hak ed\w*|dikkate alma\w*",
        r"100|tam|en yuksek|mukemmel|yuz|onceki\w*|yukaridaki\w*",
    ),
    "indonesian": (
        r"penilai\w*|juri|hakim|nilai\w*|skor|instruksi|petunjuk|jawaban",
        r"abaikan|lupakan|beri(?:kan)?|layak|pantas",
        r"100|tertinggi|sempurna|maksim\w*|seratus|sebelumnya|di atas|penuh",
    ),
    "vietnamese": (
        r"giam khao|cham diem|danh gia|diem|huong dan|cau tra loi",
        r"bo qua|cho|hay|quen|xung dang",
        r"100|toi da|tuyet doi|hoan hao|cao nhat|truoc do|phia tren",
    ),
    "russian": (
        r"оцен\w*|судь\w*|эксперт\w*|провер\w*|балл\w*|инструкци\w*|указани\w*|ответ\w*",
        r"игнорир\w*|проигнорир\w*|забуд\w*|постав\w*|дай\w*|заслужива\w*|присво\w*|выстав\w*",
        r"100|максим\w*|высш\w*|идеальн\w*|сто|предыдущ\w*|выше\w*|наивысш\w*|отличн\w*",
    ),
    "ukrainian": (
        r"оцін\w*|судд\w*|бал\w*|інструкці\w*|вказівк\w*|відповід\w*",
        r"ігнору\w*|проігнору\w*|забуд\w*|постав\w*|дай\w*|заслугов\w*",
        r"100|максим\w*|найвищ\w*|ідеальн\w*|сто|попередн\w*|вище",
    ),
    "greek": (
        r"βαθμο\w*|αξιολογ\w*|κριτ\w*|οδηγι\w*|οδηγί\w*|απαντησ\w*|απάντησ\w*|βαθμό\w*",
        r"αγνο\w*|αγνό\w*|δωσ\w*|δώσ\w*|βαλ\w*|βάλ\w*|αξιζ\w*|αξίζ\w*|ξεχ\w*|ξέχ\w*",
        r"100|αριστ\w*|άριστ\w*|τελει\w*|τέλει\w*|μεγιστ\w*|μέγιστ\w*|εκατο\w*|εκατό|προηγουμεν\w*|προηγούμεν\w*",
    ),
    "arabic": (
        r"مقي[ّ]?م|المقي[ّ]?م|القاضي|الحكم|درج[ةه]|الدرج[ةه]|تقييم|التقييم|نقط|تعليمات|التعليمات|الإجاب[ةه]|الاجاب[ةه]",
        r"تجاهل|انس|أعط|اعط|امنح|تستحق|ضع",
        r"100|١٠٠|مئ[ةه]|مائ[ةه]|كامل|الكامل[ةه]?|أعلى|اعلى|السابق[ةه]?|أعلاه",
    ),
    "hebrew": (
        r"שופט|בודק|מעריך|ציון|ניקוד|הוראות|תשובה|התשובה|ההוראות",
        r"התעלם|התעלמי|תן|תני|שכח|מגיע|ראויה",
        r"100|מושלם|מרבי|הגבוה|מאה|הקודמות|לעיל|מלא",
    ),
}
"""By language: who grades or what a grade is, to give or to ignore, the best or what stands above. All three near one
another are taken for an address. Latin letters are without accents."""

UNSPACED: Mapping[str, tuple[str, str, str]] = {
    "hindi": (
        r"मूल्यांकन\S*|न्यायाधीश|परीक्षक|अंक|स्कोर|निर्देश\S*|उत्तर|जवाब",
        r"अनदेखा|नज़रअंदाज़|नजरअंदाज|दें|दो|दीजिए|भूल|योग्य",
        r"100|१००|पूर्ण|पूरे|सर्वोच्च|सौ|उच्चतम|पिछल\S*|उपरोक्त|अधिकतम",
    ),
    "chinese": (
        r"评分|評分|打分|评审|評審|评委|評委|裁判|评估|評估|考官|分数|分數|指令|指示|回答",
        r"忽略|无视|無視|忘记|忘記|给|給|请|請|应得|應得|打|不要理会",
        r"100|一百|满分|滿分|最高|完美|之前|以上|上述|前面",
    ),
    "japanese": (
        r"採点|評価|審査|点数|スコア|指示|回答|ジャッジ|審判|得点",
        r"無視|忘れ|与え|つけ|付け|ください|値する|してく",
        r"100|百点|満点|最高|完璧|以前|上記|これまで|前の",
    ),
    "korean": (
        r"채점|평가|심사|점수|지시|심판|답변|응답",
        r"무시|잊|주세요|부여|매기|줘|하세요|받을",
        r"100|백점|만점|최고|완벽|이전|위의|앞의",
    ),
    "thai": (
        r"ผู้ประเมิน|กรรมการ|คะแนน|คำสั่ง|คำตอบ|ให้คะแนน",
        r"เพิกเฉย|ละเว้น|ให้|ลืม|สมควร",
        r"100|เต็ม|สูงสุด|สมบูรณ์|ก่อนหน้า|ข้างต้น",
    ),
}
"""Languages that set no spaces, or whose words end in marks that belong to no word for a regular expression."""
